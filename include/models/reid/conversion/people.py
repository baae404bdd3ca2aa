"""Makes ``people.onnx`` of the detector in the npm package ``@mediapipe/objectron``; no part of the image.

The package's file ``objectron_solution_packed_assets.data`` holds an SSD MobileNetV2 for 24 classes of Open Images V4
as TensorFlow Lite with 16 bit weights (Apache-2.0). Kept here: its weights, as they are, for the one class "Person".
Added: the scaling of the input, the anchors and the decoding of the boxes: who uses it needs to know none of them.

    npm pack @mediapipe/objectron@0.4.1675468480
    tar xzf mediapipe-objectron-0.4.1675468480.tgz package/objectron_solution_packed_assets.data
    uv run --no-project --with tflite==2.18.0 --with onnx==1.23.2 python people.py package/*.data people.onnx

Source: TensorFlow Lite schema; MediaPipe ``object_detection_oid_v4.pbtxt`` (anchors, scales of the boxes).
"""

from __future__ import annotations

import hashlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper, save

DATA_SHA256 = "470986ca5df183f41698da6de74b027d838fe289d77b5ab094497d350bee664e"
MODEL_AT = slice(184, 9_987_912)  # the loader's own table: first comes the list of labels
CLASSES, PERSON = 24, 4  # its label is the fifth of the list
SIZE = 300
STRIDES = (16, 32, 64, 128, 256, 512)
SCALES = [0.2 + 0.15 * level for level in range(6)] + [1.0]
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)

Array = NDArray[Any]


def anchors() -> Array:
    """Return what the boxes are relative to: (1917, 4), middle x, middle y, width, height, of the picture's size."""
    rows = []
    for level, stride in enumerate(STRIDES):
        cells = math.ceil(SIZE / stride)
        if level == 0:
            shapes = [(0.1, 1.0), (SCALES[0], 2.0), (SCALES[0], 0.5)]
        else:
            shapes = [(SCALES[level], ratio) for ratio in RATIOS]
            shapes.append((math.sqrt(SCALES[level] * SCALES[level + 1]), 1.0))
        for y in range(cells):
            for x in range(cells):
                for scale, ratio in shapes:
                    root = math.sqrt(ratio)
                    rows.append(((x + 0.5) / cells, (y + 0.5) / cells, scale * root, scale / root))
    return np.array(rows, np.float32)


class Conversion:
    """The graph as it grows. Tensors bear their number in the source; constants stay 16 bit wide, cast when loaded."""

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.values: dict[int, Array] = {}
        operators = [self.graph.Operators(number) for number in range(self.graph.OperatorsLength())]
        ends = [(int(at.Inputs(0)), self.shape(int(at.Outputs(0)))[2:]) for at in operators]
        self.of_classes = {source for source, last in ends if last == [CLASSES]}
        self.of_boxes = {source for source, last in ends if last == [1, 4]}

    def shape(self, tensor: int) -> list[int]:
        """Return a tensor's shape: batch, height, width, channels."""
        return [int(size) for size in self.graph.Tensors(tensor).ShapeAsNumpy()]

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: Array) -> str:
        """Append a constant; where it is 16 bit wide, with the cast to 32."""
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        if value.dtype != np.float16:
            return name
        return self.add("Cast", [name], f"{name}_32", to=TensorProto.FLOAT)

    def weights(self, tensor: int) -> Array:
        """Return the constant that a tensor holds, or was widened from."""
        if tensor in self.values:
            return self.values[tensor]
        found = self.graph.Tensors(tensor)
        kinds: dict[int, type[Any]] = {0: np.float32, 1: np.float16, 2: np.int32}
        raw = self.model.Buffers(found.Buffer()).DataAsNumpy()
        return np.frombuffer(bytes(raw), kinds[found.Type()]).reshape(self.shape(tensor))


def _only_person(weights: Array) -> Array:
    """Return the channels of the class Person: the source's are anchors x classes."""
    return weights[PERSON::CLASSES]


def _x_first(weights: Array) -> Array:
    """Return the channels as anchors x (x, y, width, height): the source's are anchors x (y, x, height, width)."""
    return weights.reshape(-1, 4, *weights.shape[1:])[:, [1, 0, 3, 2]].reshape(weights.shape)


def _convolution(made: Conversion, at: Any, options: Any, depthwise: bool) -> None:
    source, weights_at, bias_at = (int(at.Inputs(number)) for number in range(3))
    output = int(at.Outputs(0))
    weights, bias = made.weights(weights_at), made.weights(bias_at)
    if output in made.of_classes:
        weights, bias = _only_person(weights), _only_person(bias)
    elif output in made.of_boxes:
        weights, bias = _x_first(weights), _x_first(bias)
    kernel, stride = weights.shape[1:3], (options.StrideH(), options.StrideW())
    # as TensorFlow pads: what is odd goes to the end
    sizes = zip(made.shape(source)[1:3], made.shape(output)[1:3], kernel, stride, strict=True)
    total = [max((out - 1) * step + size - of, 0) for of, out, size, step in sizes]
    pads = [each // 2 for each in total] + [each - each // 2 for each in total]
    order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
    constants = [
        made.constant(f"w{output}", weights.transpose(order).astype(np.float16)),
        made.constant(f"b{output}", bias.astype(np.float16)),
    ]
    relu6 = options.FusedActivationFunction() == tflite.ActivationFunctionType.RELU6
    made.add(
        "Conv",
        [f"t{source}", *constants],
        f"c{output}" if relu6 else f"t{output}",
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=pads,
        group=weights.shape[3] if depthwise else 1,
    )
    if relu6:
        made.add("Clip", [f"c{output}", "zero", "six"], f"t{output}")


def _reshape(made: Conversion, at: Any) -> None:
    """Boxes and classes: (1, anchors x n, rows, columns) to (1, anchors of the level, n)."""
    source, output = int(at.Inputs(0)), int(at.Outputs(0))
    if made.shape(source)[-1] == 4:  # all boxes, one under the other by now
        made.add("Identity", [f"t{source}"], f"t{output}")
        return
    last = made.shape(output)[-1]
    made.add("Transpose", [f"t{source}"], f"n{output}", perm=[0, 2, 3, 1])
    shape = made.constant(f"s{output}", np.array([1, -1, 4 if last == 4 else 1], np.int64))
    made.add("Reshape", [f"n{output}", shape], f"t{output}")


def _operator(made: Conversion, at: Any) -> None:
    kind = made.model.OperatorCodes(at.OpcodeIndex()).BuiltinCode()
    operators = tflite.BuiltinOperator
    output, table = int(at.Outputs(0)), at.BuiltinOptions()
    if kind == operators.DEQUANTIZE:
        made.values[output] = made.weights(int(at.Inputs(0)))
    elif kind in (operators.CONV_2D, operators.DEPTHWISE_CONV_2D):
        depthwise = kind == operators.DEPTHWISE_CONV_2D
        options = tflite.DepthwiseConv2DOptions() if depthwise else tflite.Conv2DOptions()
        options.Init(table.Bytes, table.Pos)
        if options.Padding() != tflite.Padding.SAME:
            raise SystemExit("a padding that is not known here")
        _convolution(made, at, options, depthwise)
    elif kind == operators.ADD:
        made.add("Add", [f"t{int(at.Inputs(number))}" for number in range(2)], f"t{output}")
    elif kind == operators.RESHAPE:
        _reshape(made, at)
    elif kind == operators.CONCATENATION:
        made.add("Concat", [f"t{int(tensor)}" for tensor in at.InputsAsNumpy()], f"t{output}", axis=1)
    else:
        raise SystemExit(f"operator {kind}: not known here")


def _decode(made: Conversion, boxes: str, classes: str) -> None:
    """Boxes are x, y, width, height relative to the anchors; made of them: left, top, right, bottom and a score."""
    made.constant("axis", np.array([2], np.int64))
    middle_of, size_of = anchors()[None, :, :2], anchors()[None, :, 2:]
    for name, begin in (("offset", 0), ("growth", 2)):
        limits = [made.constant(f"{name}_from_{at}", np.array([at], np.int64)) for at in (begin, begin + 2)]
        made.add("Slice", [boxes, *limits, "axis"], name)
    made.add("Mul", ["offset", made.constant("tenth", (size_of / 10).astype(np.float32))], "moved")
    made.add("Add", ["moved", made.constant("middle", middle_of)], "middles")
    made.add("Mul", ["growth", made.constant("fifth", np.full((1, 1, 2), 0.2, np.float32))], "grown")
    made.add("Exp", ["grown"], "factor")
    made.add("Mul", ["factor", made.constant("half", (size_of / 2).astype(np.float32))], "halves")
    made.add("Sub", ["middles", "halves"], "low")
    made.add("Add", ["middles", "halves"], "high")
    made.add("Concat", ["low", "high"], "corners", axis=2)
    made.add("Sigmoid", [classes], "score")
    made.add("Concat", ["corners", "score"], "people", axis=2)


def main(data_path: str, onnx_path: str) -> None:
    """Convert one file into the other."""
    data = Path(data_path).read_bytes()
    if hashlib.sha256(data).hexdigest() != DATA_SHA256:
        raise SystemExit(f"{data_path}: not the file of that package's version")
    made = Conversion(data[MODEL_AT])
    made.constant("zero", np.array(0, np.float32))
    made.constant("six", np.array(6, np.float32))
    made.add("Mul", ["picture", made.constant("two", np.full((1, 1, 1, 1), 2, np.float32))], "doubled")
    first = f"t{int(made.graph.Inputs(0))}"
    made.add("Sub", ["doubled", made.constant("unit", np.full((1, 1, 1, 1), 1, np.float32))], first)
    for number in range(made.graph.OperatorsLength()):
        _operator(made, made.graph.Operators(number))
    _decode(made, f"t{int(made.graph.Outputs(0))}", f"t{int(made.graph.Outputs(1))}")
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    people = helper.make_tensor_value_info("people", TensorProto.FLOAT, [1, len(anchors()), 5])
    graph = helper.make_graph(made.nodes, "people", [picture], [people], made.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.doc_string = (
        "SSD MobileNetV2, Open Images V4, class Person; of @mediapipe/objectron 0.4.1675468480, Apache-2.0"
    )
    checker.check_model(model, full_check=True)
    save(model, onnx_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
