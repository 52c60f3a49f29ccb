"""TRL's padded batches, computed without their padding: the same log-probabilities and scores for a fraction of the work.

TRL pads every conversation to the longest of its batch, and on a CPU its output layer scores the padding and the questions,
too. Here real tokens lie one after the other (`lifecycle.model.rows`), a conversation ends where nothing more is learnt, and
only learnt tokens reach the output layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from trl.trainer.utils import FusedCausalLMOutput

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_arithmetic, choose_device
from lifecycle.model.decoder import IGNORE, TOKEN_STEP, Trunk
from lifecycle.model.fused import LOSS_ROWS
from lifecycle.model.presets import ModelConfig
from lifecycle.model.rows import inverse, pick


def leave_padding_out(*models: PreTrainedModel, dtype: str, temperature: float = 1.0) -> None:
    """Replace these models' `forward`, as TRL's trainers call it, with one that computes no padding.

    dtype: "fp32", "bf16" (autocast) or "auto". Log-probabilities are at `temperature`. A model that is no Llama, or has
    something that our decoder lacks, stays as it is; on a GPU all do, where TRL has kernels of its own.
    """
    device = choose_device("auto")
    if device.type != "cpu":
        return
    for model in models:
        if (trunk := _trunk(model)) is not None:
            flat = _Flat(trunk, choose_arithmetic(dtype, device) is torch.bfloat16, temperature)
            flattened = flat.classify if type(model) is LlamaForSequenceClassification else flat.log_probs
            model.forward = _where_it_fits(flattened, model, trunk.cos.shape[0])


def _where_it_fits(flattened: Callable[..., Any], model: PreTrainedModel, context_length: int) -> Callable[..., Any]:
    """`flattened`, but the model's own `forward` for what is longer than any conversation that the model was made for."""
    own = model.forward

    def forward(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, **given: Any) -> Any:
        compute = partial(flattened, model) if int(attention_mask.sum(1).max()) <= context_length else own
        return compute(input_ids=input_ids, attention_mask=attention_mask, **given)

    return MethodType(forward, model)


def _trunk(model: PreTrainedModel) -> Trunk | None:
    """The decoder's blocks on the very parameters of a Llama; None where they do not fit."""
    if type(model) not in (LlamaForCausalLM, LlamaForSequenceClassification):
        return None
    try:
        trunk = Trunk(ModelConfig.from_llama(model.config))
    except LifecycleError:
        return None
    trunk.load_state_dict(model.model.state_dict(keep_vars=True), assign=True)
    return trunk


@dataclass(frozen=True)
class _Flat:
    """What takes the place of a model's `forward`: its methods get the model as their first argument."""

    trunk: Trunk
    bf16: bool
    temperature: float

    def log_probs(
        self, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **_: Any
    ) -> FusedCausalLMOutput:
        """Of each label [B, T] that is not -100, in nats: [B, T - 1] and zero elsewhere, as TRL's fused output layer."""
        wanted = labels[:, 1:]
        counted = wanted != IGNORE  # [B, T - 1]
        needed = counted.flip(1).cummax(1).values.flip(1) if counted.any() else torch.ones_like(counted)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            hidden, places = self._hidden(input_ids[:, :-1], attention_mask[:, :-1].bool() & needed)
            of_counted = counted.flatten()[places].nonzero()[:, 0]
            places = places[of_counted]
            found = self._output_layer(model.get_output_embeddings(), pick(hidden, of_counted, inverse(of_counted, len(hidden))), wanted.flatten()[places])
        shape = counted.shape
        padded = {name: x.new_zeros(shape.numel()).index_copy(0, places, x).view(shape) for name, x in found.items()}
        loss = -padded["log_probs"].sum() / counted.sum().clamp(min=1)
        return FusedCausalLMOutput(loss=loss, label_mask=counted, **padded)

    def classify(
        self, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """One row of scores [B, labels] for each conversation, by its last token."""
        mask = attention_mask.bool()
        last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)  # [B]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            hidden, places = self._hidden(input_ids, mask)
            where = torch.empty(mask.numel(), dtype=torch.long).index_copy(0, places, torch.arange(len(places)))
            ends = where[torch.arange(len(mask)) * mask.shape[1] + last]
            return SequenceClassifierOutput(logits=model.score(pick(hidden, ends, inverse(ends, len(hidden)))).float())

    def _hidden(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states of the places of ids [B, T] that `mask` has, a few fillers behind them, and these places in the batch: [N].

        Rows go by length, which attention likes.
        """
        lengths = mask.sum(1)
        order = lengths.argsort(stable=True)
        order = order[lengths[order] > 0]
        row, column = mask[order].nonzero(as_tuple=True)
        places = order[row] * mask.shape[1] + column
        return self.trunk.flat(ids.flatten()[places], lengths[order]), places

    def _output_layer(self, layer: torch.nn.Module, hidden: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Of each token [n] wanted after hidden [n, hidden_size]; in parts that stay in a CPU's cache."""
        spare = -len(wanted) % TOKEN_STEP
        parts = zip(F.pad(hidden, (0, 0, 0, spare)).split(LOSS_ROWS), F.pad(wanted, (0, spare)).split(LOSS_ROWS), strict=True)
        found = [_judge(layer(part).float() / self.temperature, tokens) for part, tokens in parts]
        return {name: torch.cat([one[name] for one in found])[: len(wanted)] for name in found[0]}


def _judge(logits: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Log-probability of each token [n] by its logits [n, vocab], and where a gradient is wanted what a training log tells."""
    logprobs = logits.log_softmax(-1)
    told = {"log_probs": logprobs.gather(1, tokens[:, None])[:, 0]}
    if torch.is_grad_enabled():
        with torch.no_grad():
            told["entropy"] = -torch.linalg.vecdot(logprobs.exp(), logprobs)
            told["mean_logits"] = logits.mean(-1)
            told["is_top1"] = told["log_probs"] >= logprobs.amax(-1)
    return told
