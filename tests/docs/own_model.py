"""What docs/models.md says of one's own ONNX model, done."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from onnx import TensorProto, helper

SECTION = (Path(__file__).parents[2] / "docs" / "models.md").read_text().partition("## Your own ONNX model")[2]
NAME = "my-classifier"


def page_files() -> dict[str, str]:
    """Return the files that the page shows, by their paths in the project."""
    return dict(re.findall(r"^`(include/\S+)`\n\n```\w+\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL))


def write_model(models_folder: Path) -> Path:
    """Write what the page says into ``models_folder``, and a network as it takes one; returns the model's folder."""
    for path, text in page_files().items():
        file = models_folder / Path(path).relative_to("include/models")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    onnx.save(tiny_network(), models_folder / NAME / "model.onnx")
    return models_folder / NAME


def tiny_network() -> onnx.ModelProto:
    """Return a network with the classes 0, 1, 2: the picture is mostly red, green, blue."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["scores"], axis=1),
    ]
    given = [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 224, 224])]
    said = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])]
    graph = helper.make_graph(nodes, "tiny", given, said)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
