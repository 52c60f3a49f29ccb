"""Is a reward model as sure as it is right? By Bradley and Terry its margin says how likely the better answer is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

BINS = 5


@torch.inference_mode()
def margins(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[dict[str, Any]], batch_size: int = 64) -> list[float]:
    """Score of the chosen answer minus that of the rejected one, for each pair of conversations."""
    model.eval()
    scores: dict[str, list[float]] = {}
    for column in ("chosen", "rejected"):
        told = [tokenizer.apply_chat_template([*row["prompt"], *row[column]], return_dict=False) for row in pairs]
        scores[column] = [
            score for at in range(0, len(told), batch_size) for score in _scores(model, told[at : at + batch_size], tokenizer.pad_token_id)
        ]
    return [better - worse for better, worse in zip(scores["chosen"], scores["rejected"], strict=True)]


def _scores(model: PreTrainedModel, told: list[list[int]], pad: int) -> list[float]:
    longest = max(map(len, told))
    ids = torch.tensor([one + [pad] * (longest - len(one)) for one in told])  # [B, T], padded on the right
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in told])
    return model(ids.to(model.device), attention_mask=mask.to(model.device)).logits[:, 0].float().tolist()


def calibration(found: Sequence[float], bins: int = BINS) -> dict[str, Any]:
    """Of the margins of pairs: how often the more probable answer by the model is the chosen one, by how probable it was.

    "bins" has for each interval of the predicted probability, from 0.5 to 1, its mean ("predicted"), the share of pairs in
    which the chosen answer was the more probable one ("agreement") and their number ("pairs"); empty ones are left out.
    "error" is the expected calibration error (Guo et al., 2017): the mean distance of the two, weighted by pairs.
    """
    margin = torch.tensor(found, dtype=torch.float64)
    sure = torch.sigmoid(margin.abs())  # of whichever answer the model prefers
    agrees = (margin > 0).double()
    index = ((sure - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    rows = [_bin(sure[index == number], agrees[index == number]) for number in range(bins) if (index == number).any()]
    error = sum(row["pairs"] * abs(row["predicted"] - row["agreement"]) for row in rows) / max(1, len(found))
    return {"error": error, "bins": rows}


def _bin(sure: Tensor, agrees: Tensor) -> dict[str, Any]:
    return {"predicted": sure.mean().item(), "agreement": agrees.mean().item(), "pairs": len(sure)}


def plot(bins: Sequence[dict[str, Any]], axes: Any) -> None:
    """Draw the bins of `calibration` into matplotlib's axes: on the diagonal a model is as sure as it is right."""
    axes.plot([0.5, 1], [0.5, 1], color="grey", linestyle=":", label="as sure as it is right")
    axes.plot([row["predicted"] for row in bins], [row["agreement"] for row in bins], marker="o", label="held-out pairs")
    for row in bins:
        axes.annotate(row["pairs"], (row["predicted"], row["agreement"]), textcoords="offset points", xytext=(4, 4))
    axes.set(xlabel="predicted probability of the preferred answer", ylabel="share of pairs that agree", xlim=(0.48, 1.02), ylim=(0, 1.05))
    axes.legend()
