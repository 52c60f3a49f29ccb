"""Texts as vectors: the mean of the served model's last hidden states, scaled to length 1.

Beside the engine, not in it: an engine's backend yields logits, its kernels keep no hidden states, and a text to embed needs
no KV blocks. So the checkpoint is opened once more, by transformers, when the first text comes; a server that embeds
nothing pays nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lifecycle.hardware import choose_device
from serving.application.waiting import place_of
from serving.infrastructure.config import ServingConfig

PATIENCE = 30.0
"""Seconds that a request waits for others: who asks again and again is refused, and does not fill the server's threads."""
STEP_TOKENS = 4096
"""Of a forward pass, padding included, unless one text is longer."""


class Embedder:
    """Vectors of token sequences by the model of a checkpoint directory. Safe from any thread; one computes at a time."""

    def __init__(self, directory: str | Path, config: ServingConfig) -> None:
        self._directory, self._config = Path(directory), config
        self._lock = threading.Lock()
        self._model = None

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """[n][hidden_size], in the order of `sequences`, none of which is empty. Raises LifecycleError, and QueueFull."""
        vectors: list[list[float]] = [[]] * len(sequences)
        with place_of(self._lock, PATIENCE, "other texts are being read: send the request again later"):
            if self._model is None:
                from serving.infrastructure.torch_loading import load_model

                model = load_model(self._directory, self._config, choose_device(self._config.device))
                self._model = model.eval().requires_grad_(False).base_model
            for batch in batches([len(sequence) for sequence in sequences]):
                means = self._means([sequences[index] for index in batch])
                for index, vector in zip(batch, torch.nn.functional.normalize(means, dim=-1).tolist(), strict=True):
                    vectors[index] = vector
        return vectors

    def _means(self, sequences: Sequence[tuple[int, ...]]) -> Tensor:
        """[n, hidden_size] fp32. Padding comes behind, where a causal model does not see it."""
        longest = max(map(len, sequences))
        device = self._model.device
        ids = torch.tensor([[*sequence, *[0] * (longest - len(sequence))] for sequence in sequences], device=device)
        lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
        mask = torch.arange(longest, device=device) < lengths[:, None]
        hidden = self._model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state.float()
        return (hidden * mask[..., None]).sum(1) / lengths[:, None]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices, the longest first, in groups that pad to at most `STEP_TOKENS`, or of one."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        if group and (len(group) + 1) * lengths[group[0]] > STEP_TOKENS:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
