"""The engines that run artefacts, each asked the same: what do you answer, and how likely is what stands there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of T tokens that stand there."""

    logprobs: np.ndarray
    """Natural logarithms, of each token but the first: [T - 1]."""
    likeliest: np.ndarray
    """After each token, the id of the one that the model would go on with: [T]."""


class Engine(Protocol):
    """A loaded artefact."""

    name: str
    """With its version, for the manifest."""

    def answers(self, prompts: Sequence[list[int]], max_tokens: int, stop: Sequence[int]) -> list[list[int]]:
        """Greedy, one per prompt, each with its stop token if it got there."""

    def read(self, texts: Sequence[list[int]]) -> list[Reading]:
        """One per text, in order."""

    def close(self) -> None:
        """Give its memory and its process back."""


def engine_of(target: str, artefact: Path, base: Path | None = None, engine: str = "auto") -> Engine:
    """The one that will run an artefact directory; transformers reads those whose engine is not installed.

    `base` is the checkpoint that an adapter goes on; `engine` "vllm" has vLLM run a checkpoint. Raises LifecycleError when it cannot be loaded.
    """
    from lifecycle.deploy.engines.processes import LLAMA_CPP, OPENVINO, VLLM, ProcessEngine
    from lifecycle.deploy.engines.torch_engine import ServedEngine, TorchEngine

    if engine == "vllm":
        return ProcessEngine(VLLM, artefact)
    if target == "openvino":
        return ProcessEngine(OPENVINO, artefact)
    if target.startswith("gguf-"):
        return ProcessEngine(LLAMA_CPP, artefact) if LLAMA_CPP.python() else TorchEngine.of_gguf(artefact)
    if target == "adapter":
        return TorchEngine.of_adapter(artefact, base)
    return ServedEngine.open(artefact) or TorchEngine.of_checkpoint(artefact)
