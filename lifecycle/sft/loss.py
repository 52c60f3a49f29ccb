"""TRL's SFTTrainer with the output layer on the assistant's tokens alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from trl import SFTTrainer

from lifecycle.model.decoder import IGNORE


def answer_logits(language_model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits [n, vocab] of the places whose next token is labelled, and these labels [n]; labels [B, T] are -100 elsewhere."""
    if hasattr(language_model, "get_base_model"):  # PEFT: its adapters sit inside the model that it wraps
        language_model = language_model.get_base_model()
    labels = inputs["labels"][:, 1:]  # [B, T - 1]
    counted = labels != IGNORE
    trunk = getattr(language_model, language_model.base_model_prefix)
    given = {name: value for name, value in inputs.items() if name != "labels"}
    hidden = trunk(**given, use_cache=False).last_hidden_state[:, :-1][counted]  # [n, hidden_size]
    return language_model.get_output_embeddings()(hidden), labels[counted]


def average_gradients(model: nn.Module) -> None:
    """The mean over all processes, in place; one that has no gradient counts as zero."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            distributed.all_reduce(weight.grad)
            weight.grad /= distributed.get_world_size()


class AnswerLossTrainer(SFTTrainer):
    """The same loss as TRL's, for less work: on a CPU TRL computes logits of every position and drops most of them.

    Where there are few labels and many words, the output layer is the dearest part of a small model.
    """

    def training_step(self, *given: Any, **named: Any) -> Tensor:
        loss = super().training_step(*given, **named)
        if isinstance(self.model_wrapped, DistributedDataParallel) and self.accelerator.sync_gradients:
            average_gradients(self.model)  # its own forward pass, which would have seen to that, was not asked
        return loss

    def compute_loss(
        self, model, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Any:
        """Mean cross-entropy in nats over the labels that are not -100; a scalar that is 0 when there are none."""
        with self.accelerator.autocast():  # which the unwrapped model has lost
            logits, wanted = answer_logits(self.accelerator.unwrap_model(model), inputs)
        total = F.cross_entropy(logits.float(), wanted, reduction="sum")
        loss = total / (num_items_in_batch if num_items_in_batch is not None else max(1, len(wanted)))
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # the labels of all processes were counted, and the mean over them is to come
        with torch.no_grad():
            right = (logits.argmax(-1) == wanted).float().mean().item() if len(wanted) else 0.0
        self._metrics["train" if self.model.training else "eval"]["mean_token_accuracy"].append(right)
        return (loss, {"logits": logits}) if return_outputs else loss
