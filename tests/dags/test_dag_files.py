"""DAG files are wiring: a docstring, imports, and ``@dag`` functions that are called."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "dags").glob("*.py"))
ROOTS = ("airflow.sdk", "evc.operators", "evc.hooks.settings", "__future__", "datetime")
LOGIC = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.Lambda)
ALLOWED = (ast.Expr, ast.ImportFrom, ast.FunctionDef)


def decorator_name(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def test_there_are_dag_files() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_dag_file_is_wiring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= 120
    assert all(isinstance(node, ALLOWED) for node in tree.body)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Import), f"line {node.lineno}"
        assert not isinstance(node, LOGIC), f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom):
            assert any(node.module == root or str(node.module).startswith(f"{root}.") for root in ROOTS), node.module
        elif isinstance(node, ast.FunctionDef):
            assert {decorator_name(decorator) for decorator in node.decorator_list} & {"dag", "task_group"}, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_dag_is_named_like_its_file_and_shows_its_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [path.stem]
    keywords = {
        keyword.arg: keyword.value
        for function in functions
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
    }
    assert isinstance(keywords["doc_md"], ast.Name)
    assert keywords["doc_md"].id == "__doc__"
    assert "schedule" in keywords
    assert "catchup" in keywords
    # what begins by hand begins: a run of a DAG that is switched off waits without a word
    by_hand = isinstance(keywords["schedule"], ast.Constant) and keywords["schedule"].value is None
    assert ("is_paused_upon_creation" in keywords) == by_hand
