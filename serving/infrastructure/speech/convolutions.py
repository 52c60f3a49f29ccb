"""Kokoro's ONNX graph, made to compute faster: the same weights, other operators.

The file has each convolution as `ConvInteger`, whose 32-bit sums are turned back into floats outside of it. ONNX Runtime
computes that several times slower than `QLinearConv`, which rounds its result to 8 bits and therefore has to know
beforehand how large it gets: `ranges` say so for each channel, measured once on speech (`kokoro_ranges.py`).
A new input, `silent` (float32 [2, signs]), marks with ones the signs that are silence at the beginning and at the end: most of
it is not made into sound, which is nine tenths of the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.infrastructure.speech.checks import require

SILENT = "silent"
DURATIONS = "/encoder/Clip_output_0"
"""How many frames each sign lasts: float32 [1, signs]."""
GENERATOR = {
    "/decoder/decoder/generator/LeakyRelu": "/decoder/decoder/decode.3/Div_4_output_0",
    "/decoder/decoder/generator/f0_upsamp/Resize": "/decoder/decoder/Unsqueeze_output_0",
}
"""What makes sound of features and of their pitch begins with these nodes, which take these: [1, channels, 2 x frames]."""
KEPT = (6, 8)
"""Frames of 25 ms of silence that are made into sound before what is said, which begins a little early, and behind it."""
MARGIN = 1.1
"""Sounds may be so much larger than those that were measured; what is larger still is clipped."""
STEPS = 127
ZERO = 128
"""Of eight bits: either side of zero, and zero itself."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A `ConvInteger` and the nodes that make floats of its sums. `bias` is the name of 32-bit integers [channels]."""

    node: Any
    rounded: Any
    weight: str
    weight_zero: str
    weight_scale: str
    bias: str | None
    rest: tuple[Any, ...]

    @property
    def output(self) -> str:
        """The name of its floats."""
        return self.rest[-1].output[0]


def convolutions(graph: Any) -> Iterator[Convolution]:
    """All of a graph that are 8-bit; raises ValueError for one that is followed by something else than expected."""
    makers = {output: node for node in graph.node for output in node.output}
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    for node in graph.node:
        if node.op_type != "ConvInteger":
            continue
        rest, bias = [users[node.output[0]][0]], None
        if rest[0].op_type == "Add":
            added = next(name for name in rest[0].input if name != node.output[0])
            bias = makers[added].input[0]  # before it got the shape [1, channels, 1]
            rest.append(users[rest[0].output[0]][0])
        rest.append(users[rest[-1].output[0]][0])
        if [one.op_type for one in rest[-2:]] != ["Cast", "Mul"]:
            raise ValueError(f"{node.name} is not followed by the rounding of this model")
        rounded, (product,) = makers[node.input[0]], [makers[name] for name in rest[-1].input if name != rest[-2].output[0]]
        (scale,) = [name for name in product.input if name != rounded.output[1]]  # both scales, multiplied
        yield Convolution(node, rounded, node.input[1], node.input[3], scale, bias, tuple(rest))


def quick(file: Path, ranges: Mapping[str, Any]) -> bytes:
    """The model of a file, rewritten. `ranges`: by the name of each convolution's output, float [channels]. A second's work."""
    require("onnx")
    import onnx

    model = onnx.load(str(file))
    graph = model.graph
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    instead, gone = {}, set()
    for number, one in enumerate(list(convolutions(graph))):
        made, values = _rewritten(one, f"quick_{number}_", constants, ranges[one.output])
        instead[one.node.name] = made
        gone |= {node.name for node in one.rest}
        graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    nodes = []
    for node in graph.node:
        if node.name in GENERATOR:
            node.input[0] = f"{GENERATOR[node.name]}_shorter"
        nodes += instead.get(node.name) or ([] if node.name in gone else [node])
    made, values = _shorter()
    nodes += made
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    graph.input.append(onnx.helper.make_tensor_value_info(SILENT, onnx.TensorProto.FLOAT, [2, None]))
    _replace(graph, nodes)
    return model.SerializeToString()


def _rewritten(one: Convolution, prefix: str, constants: Mapping[str, Any], largest: Any) -> tuple[list[Any], dict[str, Any]]:
    """(nodes, constants) in place of a convolution: weights are rounded for each channel, with no zero point, which is quicker."""
    from onnx import TensorProto, helper

    scale = float(constants[one.weight_scale])
    weight = (constants[one.weight].astype(np.float32) - float(constants[one.weight_zero])) * scale
    steps = np.abs(weight).max(axis=(1, 2)) / STEPS + 1e-12
    step_out = np.asarray(largest, np.float32) * MARGIN / STEPS + 1e-9
    values = {
        "weight": np.rint(weight / steps[:, None, None]).astype(np.int8),
        "weight_zero": np.zeros((), np.int8),
        "weight_scale": (steps / step_out / STEPS).astype(np.float32),  # each channel fills the eight bits of the result
        "scale": np.float32(1 / STEPS),
        "zero": np.uint8(ZERO),
        "scales": step_out,
        "zeros": np.full(len(steps), ZERO, np.uint8),
        "finer": (scale / steps).astype(np.float32),
    }
    name = {key: prefix + key for key in values}
    nodes, bias = [], []
    if one.bias is not None:
        nodes = [
            helper.make_node("Cast", [one.bias], [prefix + "bias_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [prefix + "bias_float", name["finer"]], [prefix + "bias_finer"]),
            helper.make_node("Cast", [prefix + "bias_finer"], [prefix + "bias"], to=TensorProto.INT32),
        ]
        bias = [prefix + "bias"]
    inputs = [*one.rounded.output, name["weight"], name["weight_scale"], name["weight_zero"], name["scale"], name["zero"], *bias]
    convolution = helper.make_node("QLinearConv", inputs, [prefix + "sums"], name=one.node.name + "_quick")
    convolution.attribute.extend(one.node.attribute)
    floats = helper.make_node("DequantizeLinear", [prefix + "sums", name["scales"], name["zeros"]], [one.output], axis=1)
    return [*nodes, convolution, floats], {prefix + key: np.asarray(value) for key, value in values.items()}


def _shorter() -> tuple[list[Any], dict[str, Any]]:
    """(nodes, constants) that cut silence off what the generator is given."""
    from onnx import TensorProto
    from onnx.helper import make_node

    features, values = next(iter(GENERATOR.values())), {
        "kept": np.array(KEPT, np.float32)[:, None], "twice": np.float32(2), "flat": np.array([2]),
        "first": np.array([0]), "second": np.array([1]), "axis": np.array([2]),
    }
    nodes = [
        make_node("Gemm", [SILENT, DURATIONS], ["silent_frames"], transB=1),  # [2, 1]
        make_node("Sub", ["silent_frames", "kept"], ["silent_more"]),
        make_node("Relu", ["silent_more"], ["silent_cut"]),
        make_node("Mul", ["silent_cut", "twice"], ["silent_twice"]),
        make_node("Cast", ["silent_twice"], ["silent_whole"], to=TensorProto.INT64),
        make_node("Reshape", ["silent_whole", "flat"], ["silent_both"]),
        make_node("Gather", ["silent_both", "first"], ["sound_from"]),
        make_node("Gather", ["silent_both", "second"], ["silence_behind"]),
        make_node("Shape", [features], ["features_length"], start=2, end=3),
        make_node("Sub", ["features_length", "silence_behind"], ["sound_to"]),
    ]
    nodes += [make_node("Slice", [name, "sound_from", "sound_to", "axis"], [f"{name}_shorter"]) for name in GENERATOR.values()]
    return nodes, {name: np.asarray(value) for name, value in values.items()}


def _replace(graph: Any, nodes: list[Any]) -> None:
    """Make these the graph's nodes: without those that nobody needs, and each behind those that it needs."""
    makers = {output: node for node in nodes for output in node.output}
    needed, asked = set(), [output.name for output in graph.output]
    while asked:
        if (name := asked.pop()) not in needed:
            needed.add(name)
            asked += makers[name].input if name in makers else []
    waiting = [node for node in nodes if needed.intersection(node.output)]
    constants = [one for one in graph.initializer if one.name in needed]
    there = {"", *(one.name for one in constants), *(one.name for one in graph.input)}
    ordered = []
    while waiting:
        later = []
        for node in waiting:
            if there.issuperset(node.input):
                ordered.append(node)
                there.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ValueError("the rewritten graph has a circle")
        waiting = later
    del graph.node[:], graph.initializer[:]
    graph.node.extend(ordered)
    graph.initializer.extend(constants)
