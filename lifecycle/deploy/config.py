"""What deploying can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.config import check_above_zero, check_not_negative
from lifecycle.errors import LifecycleError

SERVED = ("bf16", "fp32", "int8")
"""Targets that our own server loads."""
TARGETS = (*SERVED, "gguf-f16", "gguf-q8_0", "gguf-q4_k", "openvino", "adapter")

ENGINES = ("auto", "vllm")
TOLERANCES = {"int8": 0.15, "gguf-q8_0": 0.15, "gguf-q4_k": 0.5}
"""What eight and four bits a weight may cost; everything else `TOLERANCE`."""
TOLERANCE = 0.05


@dataclass(frozen=True)
class DeployConfig:
    """How a trained version becomes one that is served, and when it may replace what is served now."""

    target: str = "bf16"
    """What is written: a checkpoint in safetensors, its weights in "bf16", "fp32" or "int8" (W8A8: the decoder's matrices; the
    rest in bf16); one file for llama.cpp, "gguf-f16", "gguf-q8_0" or "gguf-q4_k"; "openvino", OpenVINO's own; or "adapter", PEFT's."""
    engine: str = "auto"
    """Who runs the artefact when it is verified: "auto", as its target has it, or "vllm" for weights in bf16 or fp32."""
    calibration: int = 64
    """int8: conversations on which the sizes of activations are measured, shared out among the skills."""
    calibration_texts: int = 24
    """int8: texts that the model makes up, on which they are measured as well."""
    prompts: int = 200
    """Held-out prompts, of all skills, on which the artefact is compared with its parent."""
    answer_tokens: int = 32
    """Greedy tokens of each answer that are compared."""
    temperature: float = 0.0
    """Default of the served model; 0 is greedy, a client may ask for another."""
    top_p: float = 1.0
    """Default nucleus."""
    max_tokens: int = 256
    """Default length of an answer."""
    report_limit: int | None = None
    """Tasks per skill for the report card; None for all."""
    alias: str = "production"
    """The alias that moves when the report card does not regress."""
    tolerance: float | None = None
    """Largest mean difference of log-probabilities (nats per token) that casting or rounding may cause; None: `TOLERANCES`."""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise LifecycleError(f'target "{self.target}" is unknown: choose one of {", ".join(TARGETS)}')
        if self.engine not in ENGINES:
            raise LifecycleError(f'engine "{self.engine}" is unknown: choose one of {", ".join(ENGINES)}')
        if self.engine == "vllm" and self.target not in ("bf16", "fp32"):
            raise LifecycleError(f"vLLM runs checkpoints, not {self.target}: use --target bf16, or leave engine out")
        check_above_zero(self, "calibration", "calibration_texts", "prompts", "answer_tokens", "max_tokens", "report_limit", "tolerance")
        check_not_negative(self, "temperature", "is greedy")
        if not 0 < self.top_p <= 1:
            raise LifecycleError(f"top_p must be above 0 and at most 1, not {self.top_p}: 1 leaves nothing out")

    @property
    def allowed(self) -> float:
        """The tolerance that holds."""
        return self.tolerance if self.tolerance is not None else TOLERANCES.get(self.target, TOLERANCE)


PRESETS = {"tiny": DeployConfig(), "laptop": DeployConfig(), "gpu": DeployConfig(), "cluster": DeployConfig()}
