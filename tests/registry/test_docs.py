"""docs/registry.md says all, and nothing that is not so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, text

from evc import cli
from evc.operators.params import image_params
from evc.registry import client
from evc.registry.folder import RegistryFolder, Wanted
from evc.store.images import Details, mark_gone, record_images

PAGE = (Path(__file__).parents[2] / "docs" / "registry.md").read_text()
README = (Path(__file__).parents[2] / "include" / "registry" / "README.md").read_text()


@pytest.mark.parametrize("command", ["init", "accounts", "grant", "revoke"])
def test_every_option_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["registry", command, "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert f"evc registry {command}" in PAGE
    assert options
    assert {option for option in options if f"`{option}`" not in PAGE and f" {option}" not in PAGE} == set()


def test_every_evc_command_in_the_docs_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["registry", "--help"])
    known = capsys.readouterr().out
    named = set(re.findall(r"evc registry ([a-z]+)", PAGE + README))
    assert named >= {"init", "accounts", "grant", "revoke"}
    assert {name for name in named if name not in known} == set()


@pytest.mark.parametrize("key", sorted(image_params()))
def test_every_conf_key_of_delete_image_is_documented(key: str) -> None:
    assert f"`{key}`" in PAGE.partition("## Deleting")[2]


def test_every_error_in_the_docs_is_one_that_is_raised() -> None:
    source = Path(client.__file__).read_text()
    table = PAGE.partition("## Errors")[2]
    messages = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(messages) >= 7
    for message in messages[:-1]:  # the last one comes from registry/files.py
        for part in message.split(" ... "):
            assert part.strip() in source, part


def test_the_query_for_images_without_a_tag_finds_them(engine: Engine) -> None:
    query = re.search(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert query
    a, b, c = (f"sha256:{letter * 64}" for letter in "abc")
    with engine.begin() as connection:
        record_images(connection, {("reid", "latest", a): Details(), ("reid", "1", b): Details()}, 100)
        record_images(connection, {("reid", "latest", c): Details(), ("reid", "1", b): Details()}, 200)
        record_images(connection, {("reid", "latest", c): Details(), ("reid", "2", b): Details()}, 300)
        assert [tuple(row) for row in connection.execute(text(query[1]))] == [("reid", a, 200)]
        mark_gone(connection, "reid", b, 400)
        assert sorted(tuple(row) for row in connection.execute(text(query[1]))) == [("reid", a, 200), ("reid", b, 400)]


def test_compose_starts_both_faces_as_init_made_them(tmp_path: Path) -> None:
    text_ = (Path(__file__).parents[2] / "include" / "registry" / "compose.yaml").read_text()
    compose = yaml.safe_load(text_)
    folder = RegistryFolder(tmp_path)
    folder.init(Wanted(names=["localhost"]))
    faces = {face.name: face for face in (folder.read_write, folder.pull_only)}
    assert set(compose["services"]) == set(faces)
    for name, service in compose["services"].items():
        assert service["command"] == ["serve", faces[name].config_file.name]
        (mount,) = service["volumes"]
        assert mount.endswith(f":{service['working_dir']}")
        port = f":-{faces[name].port()}}}"
        assert service["ports"][0].count(port) == 2
    variables = set(re.findall(r"EVC_REGISTRY_[A-Z_]+", text_))
    assert variables == {f"EVC_REGISTRY_{name}" for name in ("FOLDER", "USER", "PORT", "PULL_PORT", "IMAGE")}
    assert {name for name in variables if f"export {name}=" not in README and f" {name}=" not in README} == {
        "EVC_REGISTRY_IMAGE",
        "EVC_REGISTRY_PORT",
        "EVC_REGISTRY_PULL_PORT",
    }
