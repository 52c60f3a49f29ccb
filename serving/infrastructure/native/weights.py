"""A checkpoint's weights in the order in which the kernels read them."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lifecycle.errors import LifecycleError
from lifecycle.model.int8 import quantise_rows
from serving.infrastructure.conformance import UnsupportedArchitecture
from serving.infrastructure.native.description import Description
from serving.infrastructure.native.library import Layer, Linear, Model, Screen

PANEL = 32
HALF_PANEL = 16
LINE = 64  # bytes of a cache line
HUGE_PAGE = 2**21
ROWS_AT_ONCE = 4096
HUGE = 3e38


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a directory's safetensors files, mapped into memory and read when they are asked for."""

    def __init__(self, directory: Path) -> None:
        files = sorted(directory.glob("*.safetensors"))
        if not files:
            raise UnsupportedArchitecture(f"{directory} has no safetensors file")
        self._files = [safe_open(file, "pt") for file in files]
        self._place = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        return self._place[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


class Arena:
    """Memory in huge pages, given out piece by piece: a step walks through all weights, and small pages cost look-ups."""

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size + HUGE_PAGE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = torch.frombuffer(self._memory, dtype=torch.uint8)
        self._next = -self._bytes.data_ptr() % HUGE_PAGE

    def take(self, size: int) -> Tensor:
        """[size] bytes of zeros, on a cache line of their own."""
        piece = self._bytes[self._next : self._next + size]
        self._next += -(-size // LINE) * LINE
        return piece


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of weights: bf16, or int8 with what one unit of each row is worth."""

    values: Tensor  # [outputs, inputs]
    scales: Tensor | None = None  # [outputs] fp32

    def padded_to(self, outputs: int, inputs: int) -> Matrix:
        scales = None if self.scales is None else _pad(self.scales, outputs)
        return Matrix(_pad(self.values, outputs, inputs), scales)

    def rounded(self) -> Matrix:
        """In int8, each row on a scale of its own."""
        values, scales = quantise_rows(self.values.float())
        return Matrix(values, scales[:, 0])

    @staticmethod
    def joined(parts: Sequence[Matrix]) -> Matrix:
        """One below the other."""
        return Matrix._merged(parts, torch.cat)

    @staticmethod
    def interleaved(parts: Sequence[Matrix]) -> Matrix:
        """Gate and up, 16 outputs of each in turn, so that a panel holds what belongs together."""
        return Matrix._merged(parts, _interleaved)

    @staticmethod
    def _merged(parts: Sequence[Matrix], how: Callable[[list[Tensor]], Tensor]) -> Matrix:
        scales = [part.scales for part in parts]
        return Matrix(how([part.values for part in parts]), None if scales[0] is None else how(scales))


class PackedWeights:
    """All weights of a model, and the `Model` structure that points to them.

    `int8` rounds the layers' matrices where a checkpoint holds them in floating point; the head stays in bf16, where rounding
    costs most. `int8_cache`: keys and values are rounded, too. Raises UnsupportedArchitecture for tensors that are missing or
    that the family does not have, and LifecycleError for values that are not numbers.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        description: Description,
        weights: Mapping[str, Tensor],
        *,
        int8: bool = False,
        int8_cache: bool = False,
    ) -> None:
        self._library = library
        self._int8 = int8
        self._weights = weights
        self._unread = {name for name in weights if not name.endswith("rotary_emb.inv_freq")}
        self._kept: list[Tensor] = []  # what the structures point to
        self._arena = Arena(packed_bytes(description))
        d = description
        self.layers = (Layer * d.layers)()
        for index, layer in enumerate(self.layers):
            self._fill(layer, f"model.layers.{index}.", d)
            layer.window, layer.rotates = d.windows[index], d.rotates[index]
        embedding = self._read("model.embed_tokens.weight", d.vocabulary, d.hidden)
        head = embedding if d.tied else self._read("lm_head.weight", d.vocabulary, d.hidden)
        final_norm = self._norm("model.norm.weight", d.hidden)
        self._unread.discard("lm_head.weight")  # tied, and written down all the same
        if self._unread:
            raise UnsupportedArchitecture(f"there are tensors that the kernels do not know: {sorted(self._unread)[:3]}")
        self.model = Model(
            layers=d.layers,
            hidden=d.hidden,
            width=padded(d.hidden),
            heads=d.heads,
            kv_heads=d.kv_heads,
            head_dim=d.head_dim,
            vocabulary=d.vocabulary,
            int8_cache=int8_cache,
            epsilon=d.epsilon,
            embedding_scale=d.embedding_scale,
            residual_scale=d.residual_scale,
            attention_scale=d.attention_scale,
            logit_scale=d.logit_scale,
            layer=self.layers,
            embedding=self._keep(embedding.clone()),  # not the mapped file: all of it would count as memory in use
            final_norm=final_norm,
            head=self._linear(Matrix(head), padded(d.hidden)),
            screen=self._screen(Matrix(head), padded(d.hidden)) if d.logit_scale > 0 else Screen(),
        )
        del self._weights

    def _fill(self, layer: Layer, prefix: str, d: Description) -> None:
        attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
        sizes = {"q_proj": d.heads * d.head_dim, "k_proj": d.kv_heads * d.head_dim, "v_proj": d.kv_heads * d.head_dim}
        qkv = [self._matrix(f"{attention}{name}.weight", size, d.hidden) for name, size in sizes.items()]
        biases = [self._bias(f"{attention}{name}.bias", size) for name, size in sizes.items()]
        layer.qkv = self._linear(Matrix.joined(qkv), padded(d.hidden), _joined(biases, list(sizes.values())))
        attended = d.heads * d.head_dim
        layer.out = self._linear(
            self._matrix(f"{attention}o_proj.weight", d.hidden, attended),
            padded(attended),
            self._bias(f"{attention}o_proj.bias", d.hidden),
        )
        both = [self._matrix(f"{mlp}{name}.weight", d.intermediate, d.hidden) for name in ("gate_proj", "up_proj")]
        biases = [self._bias(f"{mlp}{name}.bias", d.intermediate) for name in ("gate_proj", "up_proj")]
        bias = _joined(biases, [d.intermediate] * 2)
        if bias is not None:
            bias = _interleaved(bias.split(d.intermediate))
        layer.gate_up = self._linear(Matrix.interleaved(both), padded(d.hidden), bias)
        layer.down = self._linear(
            self._matrix(f"{mlp}down_proj.weight", d.hidden, d.intermediate),
            layer.gate_up.outputs // 2,
            self._bias(f"{mlp}down_proj.bias", d.hidden),
        )
        layer.attention_norm = self._norm(f"{prefix}input_layernorm.weight", d.hidden)
        layer.mlp_norm = self._norm(f"{prefix}post_attention_layernorm.weight", d.hidden)
        layer.query_norm = self._optional_norm(f"{attention}q_norm.weight", d.head_dim)
        layer.key_norm = self._optional_norm(f"{attention}k_norm.weight", d.head_dim)

    def _read(self, name: str, *shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        try:
            tensor = self._weights[name]
        except KeyError:
            raise UnsupportedArchitecture(f'there is no tensor "{name}"') from None
        self._unread.discard(name)
        if tuple(tensor.shape) != shape:
            raise UnsupportedArchitecture(f"{name} is {list(tensor.shape)}, not {list(shape)}")
        check_numbers(name, tensor)
        return tensor.detach().to("cpu", dtype)

    def _bias(self, name: str, size: int) -> Tensor | None:
        return self._read(name, size).float() if name in self._unread else None

    def _norm(self, name: str, size: int) -> int:
        return self._keep(_pad(self._read(name, size).float(), padded(size)))

    def _optional_norm(self, name: str, size: int) -> int | None:
        return self._norm(name, size) if name in self._unread else None

    def _matrix(self, name: str, outputs: int, inputs: int) -> Matrix:
        if name in self._unread and self._weights[name].dtype == torch.int8:
            scales = self._read(f"{name}_scale", outputs, 1, dtype=torch.float32)
            return Matrix(self._read(name, outputs, inputs, dtype=torch.int8), scales[:, 0])
        matrix = Matrix(self._read(name, outputs, inputs))
        return matrix.rounded() if self._int8 else matrix

    def _linear(self, matrix: Matrix, inputs: int, bias: Tensor | None = None) -> Linear:
        """matrix [outputs, inputs at most `inputs`], bias [outputs]: both padded with zeros."""
        outputs = padded(len(matrix.values))
        matrix = matrix.padded_to(outputs, inputs)
        rows, scales = matrix.values, matrix.scales
        panels = self._arena.take(rows.nbytes)
        self._library.pack(rows.data_ptr(), panels.data_ptr(), outputs, inputs * rows.element_size())
        linear = Linear(
            weights=panels.data_ptr(),
            bias=None if bias is None else self._keep(_pad(bias, outputs)),
            groups=inputs * rows.element_size() // 4,
            outputs=outputs,
        )
        if scales is not None:
            linear.scales = self._keep(scales)
            linear.offsets = self._keep(128 * rows.sum(1, dtype=torch.int32))
        return linear

    def _screen(self, head: Matrix, inputs: int) -> Screen:
        """The head in int8, and how far each output may be off; see screen.h."""
        parts, errors, sizes = [], [], []
        for values in head.values.split(ROWS_AT_ONCE):  # in fp32 the whole head would be as large as the model
            part = Matrix(values).rounded()
            known = part.values.float() * part.scales[:, None]
            parts.append(part)
            errors.append((values.float() - known).norm(dim=1))
            sizes.append(known.norm(dim=1))
        rounded, error, size = Matrix.joined(parts), torch.cat(errors), torch.cat(sizes)
        outputs = padded(len(error))
        nobodys = torch.full((outputs - len(error),), HUGE, dtype=torch.float32)
        return Screen(
            rounded=self._linear(rounded, inputs),
            error=self._keep(torch.cat([error, nobodys])),
            size=self._keep(_pad(size, outputs)),
        )

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def check_numbers(name: str, tensor: Tensor) -> None:
    """Raises LifecycleError for NaN or infinity."""
    # A sum that is a number has only numbers in it, and takes a hundredth of the time of looking at each.
    if not tensor.sum().isfinite() and not tensor.isfinite().all():
        raise LifecycleError(
            f"{name} has values that are not numbers, so nothing can be served: train or import this version again"
        )


def padded(size: int, to: int = PANEL) -> int:
    """The next multiple."""
    return -(-size // to) * to


def _pad(tensor: Tensor, *shape: int) -> Tensor:
    """With zeros at the end of each dimension."""
    if tuple(tensor.shape) == shape:
        return tensor.contiguous()
    larger = tensor.new_zeros(shape)
    larger[tuple(slice(size) for size in tensor.shape)] = tensor
    return larger


def _interleaved(parts: Sequence[Tensor]) -> Tensor:
    """[n, ...] each, to [padded n x parts, ...]: 16 rows of each in turn."""
    whole = [_pad(part, padded(len(part), HALF_PANEL), *part.shape[1:]) for part in parts]
    return torch.stack([part.unflatten(0, (-1, HALF_PANEL)) for part in whole], 1).flatten(0, 2)


def _joined(biases: list[Tensor | None], sizes: list[int]) -> Tensor | None:
    """One bias for linears that became one; zeros where only some have one."""
    if all(bias is None for bias in biases):
        return None
    return torch.cat([torch.zeros(size) if bias is None else bias for bias, size in zip(biases, sizes, strict=True)])


def packed_bytes(d: Description, *, int8: bool = False) -> int:
    """Memory of all weights, most of which is packed; `int8`: the layers' matrices are rounded."""
    width, gated = padded(d.hidden), padded(d.intermediate, HALF_PANEL)
    attended, qkv = padded(d.heads * d.head_dim), padded((d.heads + 2 * d.kv_heads) * d.head_dim)
    layer = qkv * width + width * attended + 2 * gated * width + width * gated
    head, embedding = 3 * padded(d.vocabulary) * width, 2 * d.vocabulary * d.hidden
    return (1 if int8 else 2) * d.layers * layer + head + embedding + 4 * LINE * (d.layers + 2)
