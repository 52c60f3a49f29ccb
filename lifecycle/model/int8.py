"""W8A8: weights and activations in int8, each output of a matrix and each token's input on a scale of its own.

Dettmers et al. 2022 (arXiv 2208.07339) call it vector-wise quantisation. The products are exact in int32; all that is lost is
lost in rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LARGEST = 127
CUDA_ROWS, CUDA_COLUMNS = 32, 8
"""torch._int_mm on CUDA wants more than 16 rows, and sizes that are multiples of 8."""


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[n, k] floating point to int8 [n, k] and scales [n, 1], with rows = values * scales up to rounding.

    The scale of a row with a NaN is NaN: there is none among integers.
    """
    most = rows.abs().amax(-1, keepdim=True)
    scales = torch.where(most == 0, 1.0, most / LARGEST)
    return (rows / scales).round().to(torch.int8), scales


def multiply(rows: Tensor, weight: Tensor) -> Tensor:
    """int8 [n, k] times int8 [outputs, k], transposed: [n, outputs], exact in int32."""
    if rows.device.type == "cpu":
        return torch._int_mm(rows, weight.t())
    if rows.device.type == "cuda" and not any(size % CUDA_COLUMNS for size in weight.shape):
        missing = -len(rows) % CUDA_ROWS
        return torch._int_mm(nn.functional.pad(rows, (0, 0, 0, missing)), weight.t())[: len(rows)]
    return multiply_anywhere(rows, weight)


def multiply_anywhere(rows: Tensor, weight: Tensor) -> Tensor:
    """The same on any device and for any size: a double holds every sum of products that int32 holds."""
    return (rows.double() @ weight.double().t()).to(torch.int32)


class Int8Linear(nn.Module):
    """A linear layer of int8 weights [outputs, inputs] and fp32 scales [outputs, 1], named as compressed-tensors names them.

    The input [..., inputs] may be of any floating type, and so is the output; in between, each token is rounded to int8.
    A state dict with floating-point weights is rounded as it is loaded.
    """

    def __init__(self, inputs: int, outputs: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(outputs, 1))
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """A linear layer's weights, rounded."""
        rounded = cls(linear.in_features, linear.out_features, linear.bias)
        rounded.weight, rounded.weight_scale = quantise_rows(linear.weight.detach().float())
        return rounded

    def forward(self, x: Tensor) -> Tensor:
        values, scales = quantise_rows(x.flatten(0, -2).float())  # [n, inputs], [n, 1]
        y = multiply(values, self.weight).float() * scales * self.weight_scale[:, 0].float()
        if self.bias is not None:
            y = y + self.bias.float()
        return y.to(x.dtype).unflatten(0, x.shape[:-1])

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        name = f"{prefix}weight"
        if name in state_dict and state_dict[name].is_floating_point():
            state_dict[name], state_dict[f"{name}_scale"] = quantise_rows(state_dict[name].float())
        super()._load_from_state_dict(state_dict, prefix, *rest)


def round_linears(model: nn.Module) -> None:
    """Round all linears of a causal language model's decoder, in place; its head stays what it is."""
    _replace(model, Int8Linear.of)


def empty_linears(model: nn.Module) -> None:
    """Like `round_linears`, but with nothing in them yet: for weights that a state dict is about to bring."""
    _replace(model, lambda linear: Int8Linear(linear.in_features, linear.out_features, linear.bias))


def _replace(model: nn.Module, make: Callable[[nn.Linear], Int8Linear]) -> None:
    head = model.get_output_embeddings()
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.Linear) and child is not head:
                setattr(owner, name, make(child))
