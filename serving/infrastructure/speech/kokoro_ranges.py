"""How large the results of Kokoro's convolutions get: measured on speech, kept in `kokoro_ranges.npz` for `convolutions.py`.

    python -m serving.infrastructure.speech.kokoro_ranges        # writes the file anew: minutes

Each is the largest magnitude of one channel over `SAID` in `VOICES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serving.infrastructure.speech.convolutions import convolutions
from serving.infrastructure.speech.files import find
from serving.infrastructure.speech.kokoro_reader import Reader

FILE = Path(__file__).with_name("kokoro_ranges.npz")
VOICES = ("af_heart", "am_michael", "bf_emma", "bm_george", "af_bella", "am_fenrir")
SAID = (
    "The key is in the blue box.",
    "Milo found a key, and Igor opened the old green door slowly.",
    "Yes, of course!",
    "Seventeen plus twenty five is forty two.",
    "How do I ask Ian for the chest?",
    "I am sorry, but I do not know who has the yellow kite.",
    "Once upon a time there was a small dragon, who lived near the river and was afraid of mice.",
)


def load() -> dict[str, Any]:
    """By the name of each convolution's output: float32 [channels]."""
    with np.load(FILE) as kept:
        return {name.replace("|", "/"): kept[name].astype(np.float32) for name in kept.files}


def measure(file: Path, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The same for the model of a file and what it is to be given."""
    import onnx
    import onnxruntime

    model = onnx.load(str(file))
    graph = model.graph
    names = [one.output for one in convolutions(graph)]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 2]), "all_but_channels"))
    for name in names:
        graph.node.append(onnx.helper.make_node("Abs", [name], [name + "_size"]))
        graph.node.append(onnx.helper.make_node("ReduceMax", [name + "_size", "all_but_channels"], [name + "_largest"], keepdims=0))
        graph.output.append(onnx.helper.make_tensor_value_info(name + "_largest", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run([name + "_largest" for name in names], one) for one in inputs]
    return {name: np.max(found, axis=0) for name, found in zip(names, zip(*runs, strict=True), strict=True)}


def main() -> None:
    reader = Reader()
    inputs = [reader.inputs(signs, voice, 1.0) for voice in VOICES for text in SAID for signs in reader.parts(text)]
    found = measure(find("kokoro.onnx"), inputs)
    np.savez_compressed(FILE, **{name.replace("/", "|"): value.astype(np.float16) for name, value in found.items()})


if __name__ == "__main__":
    main()
