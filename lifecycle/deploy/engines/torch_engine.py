"""transformers, which reads every artefact, and our own serving engine, which answers people with checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Self

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lifecycle.deploy.engines import Reading
from lifecycle.deploy.gguf_file import FILE
from lifecycle.model.loading import load_causal_lm
from lifecycle.rlhf.engines import GROUP
from lifecycle.rlhf.rollouts import RolloutEngine

AT_ONCE = 50
"""Prompts in one batch."""


class TorchEngine:
    """A model of transformers."""

    def __init__(self, model: PreTrainedModel, note: str = "") -> None:
        self._model = model.eval()
        self.name = f"transformers {version('transformers')}{note}"

    @classmethod
    def of_checkpoint(cls, directory: Path, dtype: torch.dtype | str = "auto") -> Self:
        return cls(load_causal_lm(directory, dtype=dtype))

    @classmethod
    def of_gguf(cls, directory: Path) -> Self:
        """Dequantised to fp32."""
        return cls(AutoModelForCausalLM.from_pretrained(directory, gguf_file=FILE, dtype=torch.float32), ", dequantised")

    @classmethod
    def of_adapter(cls, directory: Path, base: Path) -> Self:
        """On its base in fp32."""
        from peft import PeftModel

        return cls(PeftModel.from_pretrained(load_causal_lm(base, dtype=torch.float32), directory), f", peft {version('peft')}")

    @torch.inference_mode()
    def answers(self, prompts: Sequence[list[int]], max_tokens: int, stop: Sequence[int]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        for start in range(0, len(order), AT_ONCE):
            members = order[start : start + AT_ONCE]
            for place, tokens in zip(members, self._generate([prompts[place] for place in members], max_tokens, stop), strict=True):
                found[place] = ended(tokens, stop)
        return found

    def _generate(self, prompts: list[list[int]], max_tokens: int, stop: Sequence[int]) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])  # [B, T], padded on the left
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        ends = {"eos_token_id": list(stop)} if stop else {"eos_token_id": None, "min_new_tokens": max_tokens}
        new = self._model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, temperature=None, top_p=None, pad_token_id=0, **ends
        )
        return new[:, longest:].tolist()

    @torch.inference_mode()
    def read(self, texts: Sequence[list[int]]) -> list[Reading]:
        return [self._read(torch.tensor([text])) for text in texts]

    def _read(self, ids: torch.Tensor) -> Reading:
        logprobs = self._model(ids).logits[0].float().log_softmax(-1)  # [T, V]
        return Reading(logprobs[:-1].gather(1, ids[0, 1:, None]).flatten().numpy(), logprobs.argmax(-1).numpy().astype(np.int64))

    def close(self) -> None:
        del self._model


class ServedEngine:
    """The engine that a server runs answers; it does not tell how likely a prompt is, so transformers reads."""

    name = "the serving engine"

    def __init__(self, sampler: RolloutEngine, directory: Path) -> None:
        self._sampler, self._reader = sampler, TorchEngine.of_checkpoint(directory)

    @classmethod
    def open(cls, directory: Path) -> Self | None:
        """None where no serving is installed."""
        offered = next(iter(entry_points(group=GROUP, name="engine")), None)
        return cls(offered.load()(directory, dtype="auto", sequences=AT_ONCE), directory) if offered else None

    def answers(self, prompts: Sequence[list[int]], max_tokens: int, stop: Sequence[int]) -> list[list[int]]:
        said = self._sampler.sample(prompts, max_tokens=max_tokens, temperature=0.0, stop=stop, seed=0)
        return [answer.tokens for answer in said]

    def read(self, texts: Sequence[list[int]]) -> list[Reading]:
        return self._reader.read(texts)

    def close(self) -> None:
        self._sampler.close()
        self._reader.close()


def ended(tokens: list[int], stop: Sequence[int]) -> list[int]:
    """Up to the first stop token, which stays."""
    return next((tokens[: place + 1] for place, token in enumerate(tokens) if token in stop), tokens)
