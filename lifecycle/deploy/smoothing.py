"""SmoothQuant (Xiao et al. 2022, arXiv 2211.10438): outliers move from activations, where they spoil rounding, into weights.

A few input channels of a matrix are tens of times larger than the others, and a token's scale has to fit the largest. Dividing a
channel by a factor and multiplying the weights that read it by the same changes nothing before rounding. The division is folded
into what wrote the channel (a norm, or rows of another matrix), so that the architecture stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lifecycle.errors import LifecycleError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite")
"""Values of `model_type` whose layers are built as `smooth` expects; each is tested."""
AFTER_NORM, ATTENDED, GATED = 0.7, 0.5, 0.7
"""How much of a channel's outliers goes into the weights: qkv and gate/up, o_proj, down_proj. Chosen on SmolLM2-135M-Instruct."""
SMALLEST = 1e-5

Maxima = dict[nn.Module, Tensor]
"""Of each linear: the largest absolute value that each of its inputs took, [inputs]."""


def require_family(model: PreTrainedModel, ref: str) -> None:
    """Raises LifecycleError for a model whose activations `smooth` does not know how to fold."""
    kind, activation = model.config.model_type, getattr(model.config, "hidden_act", None)
    why = f'its type "{kind}" is not one of {", ".join(FAMILIES)}' if kind not in FAMILIES else None
    if why is None and activation not in ("silu", "swish"):
        why = f'its activation "{activation}" is not silu'
    if why:
        raise LifecycleError(f"{ref} cannot be rounded to int8: {why}; use --target bf16")


@torch.no_grad()
def activation_maxima(model: PreTrainedModel, conversations: Iterable[list[int]]) -> Maxima:
    """What reaches the decoder's linears while the model reads conversations of token ids."""
    maxima: Maxima = {}

    def note(linear: nn.Module, inputs: tuple[Tensor]) -> None:
        most = inputs[0].abs().flatten(0, -2).amax(0)
        maxima[linear] = torch.maximum(maxima[linear], most) if linear in maxima else most

    linears = [module for module in model.model.layers.modules() if isinstance(module, nn.Linear)]
    hooks = [linear.register_forward_pre_hook(note) for linear in linears]
    try:
        for ids in conversations:
            model.model(torch.tensor([ids], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return maxima


@torch.no_grad()
def smooth(model: PreTrainedModel, maxima: Maxima) -> None:
    """Fold the factors into an fp32 model of `FAMILIES`, in place; its logits stay what they were up to fp32's rounding."""
    heads, kv_heads = model.config.num_attention_heads, model.config.num_key_value_heads
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        _after_norm(layer.input_layernorm, [attention.q_proj, attention.k_proj, attention.v_proj], maxima)
        _after_norm(layer.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj], maxima)
        _after_linear(mlp.up_proj, mlp.down_proj, GATED, maxima)  # down_proj reads silu(gate) * up

        def per_value(inputs: Tensor) -> Tensor:  # [heads x D] to [kv_heads x D]: the largest of the heads that share a value
            return inputs.view(kv_heads, heads // kv_heads, -1).amax(1).flatten()

        def per_input(values: Tensor) -> Tensor:  # and back, [kv_heads x D] to [heads x D]
            return values.view(kv_heads, 1, -1).expand(-1, heads // kv_heads, -1).flatten()

        # What o_proj reads are averages of values over positions, whose weights add up to one.
        _after_linear(attention.v_proj, attention.o_proj, ATTENDED, maxima, per_value, per_input)


def _after_norm(norm: nn.Module, readers: list[nn.Linear], maxima: Maxima) -> None:
    weights = torch.stack([reader.weight.abs().amax(0) for reader in readers]).amax(0)
    wanted = norm.weight / _factors(maxima[readers[0]], weights, AFTER_NORM)
    # Norms are stored in bf16: what is folded into the weights is the factor that this rounding leaves.
    stored = wanted.bfloat16().float()
    factors = torch.where(stored != 0, norm.weight / stored, 1.0)
    norm.weight.copy_(stored)
    for reader in readers:
        reader.weight.mul_(factors)


def _same(inputs: Tensor) -> Tensor:
    return inputs


def _after_linear(
    writer: nn.Linear,
    reader: nn.Linear,
    exponent: float,
    maxima: Maxima,
    per_output: Callable[[Tensor], Tensor] = _same,
    per_input: Callable[[Tensor], Tensor] = _same,
) -> None:
    """`per_output` and `per_input` say which of the reader's inputs share one of the writer's outputs."""
    factors = _factors(per_output(maxima[reader]), per_output(reader.weight.abs().amax(0)), exponent)
    writer.weight.div_(factors[:, None])
    if writer.bias is not None:
        writer.bias.div_(factors)
    reader.weight.mul_(per_input(factors))


def _factors(activations: Tensor, weights: Tensor, exponent: float) -> Tensor:
    """[channels]: the paper's formula (4), of the largest absolute values of both."""
    return activations.clamp_min(SMALLEST) ** exponent / weights.clamp_min(SMALLEST) ** (1 - exponent)
