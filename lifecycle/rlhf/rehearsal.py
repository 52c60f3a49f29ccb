"""What was taught before, learnt on beside the reward (PPO-ptx: Ouyang et al., 2022), for a reward keeps only what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from lifecycle.model.decoder import IGNORE


@dataclass(frozen=True)
class Rehearsal:
    """The same conversations for the same step, whether a run was interrupted or not."""

    batches: list[list[tuple[Tensor, Tensor]]]
    """Of each step, the tokens of some conversations and their labels, both [T]; -100 where the assistant does not speak."""
    weight: float

    @classmethod
    def of(
        cls, conversations: Dataset, tokenizer: PreTrainedTokenizerBase, *, steps: int, batch: int, longest: int, weight: float, seed: int
    ) -> Rehearsal:
        """`batch` conversations a step, drawn by `seed`, each cut after `longest` tokens."""
        from lifecycle.sft.data import tokenize

        chosen = np.random.default_rng(seed).integers(len(conversations), size=steps * batch)
        rows = [
            (torch.tensor(row["input_ids"][:longest]), _labels(row)[:longest])
            for row in tokenize(conversations.select(chosen), tokenizer)
        ]
        return cls([rows[start : start + batch] for start in range(0, len(rows), batch)], weight)

    def loss(self, language_model: Any, step: int) -> Tensor:
        """Weighted mean cross-entropy in nats of what the assistant says in a step's conversations; a scalar."""
        from lifecycle.sft.loss import answer_logits

        tokens, labels = zip(*self.batches[step], strict=True)
        inputs = {  # padding comes last, where causal attention does not see it
            "input_ids": pad_sequence(tokens, batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        }
        device = next(language_model.parameters()).device
        logits, wanted = answer_logits(language_model, {name: value.to(device) for name, value in inputs.items()})
        return self.weight * F.cross_entropy(logits.float(), wanted)


def _labels(row: dict[str, list[int]]) -> Tensor:
    said = torch.tensor(row["assistant_masks"], dtype=torch.bool)
    return torch.tensor(row["input_ids"]).masked_fill(~said, IGNORE)
