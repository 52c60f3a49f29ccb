"""Models in ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.infrastructure.speech.checks import require


def session(model: Path | bytes, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU, safe from any thread; `threads` 0: one for each core. Raises `SpeechMissing`."""
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would take the model's cores
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"])
