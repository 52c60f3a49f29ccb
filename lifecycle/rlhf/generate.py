"""Rollouts by transformers' `generate`: a static batch, which is as slow as its longest answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lifecycle.hardware import choose_device, choose_dtype
from lifecycle.model.loading import load_causal_lm
from lifecycle.rlhf.rollouts import Rollout


class GenerateRollouts:
    """A `RolloutEngine` on a model of its own; `sequences` is of no account to it."""

    def __init__(self, directory: Path, *, dtype: str, sequences: int) -> None:
        device = choose_device("auto")
        self.model = load_causal_lm(directory, dtype=choose_dtype(dtype, device)).eval().to(device)

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state_dict)

    @torch.inference_mode()
    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_tokens: int, temperature: float, stop: Iterable[int], seed: int
    ) -> list[Rollout]:
        stops = sorted(stop)
        longest = max(map(len, prompts))
        ids = torch.tensor([[stops[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts])  # [B, T]
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        chosen = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found = self.model.generate(
                ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                max_new_tokens=max_tokens,
                pad_token_id=stops[0],
                eos_token_id=stops,
                return_dict_in_generate=True,
                output_logits=True,
                **chosen,
            )
        answers = found.sequences[:, longest:]  # [B, N]
        logits = torch.stack(found.logits, 1).float() / (temperature or 1.0)  # [B, N, vocab]
        logprobs = logits.log_softmax(-1).gather(2, answers[..., None])[..., 0]
        return [_until(set(stops), *row) for row in zip(answers.tolist(), logprobs.tolist(), strict=True)]

    def close(self) -> None:
        """Nothing to do: the model goes with this object."""


def _until(stops: set[int], tokens: list[int], logprobs: list[float]) -> Rollout:
    length = next((at + 1 for at, token in enumerate(tokens) if token in stops), len(tokens))
    return Rollout(tokens[:length], logprobs[:length])
