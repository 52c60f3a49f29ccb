"""What a model's vision tower makes of pictures: computed together where their tensors agree, kept by content."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from serving.domain.media import Placement


@dataclass(frozen=True, slots=True)
class Embedding:
    """A picture as the language model reads it: `rows` [placeholders, hidden_size] take the place of token embeddings.

    `layers` are as many rows each, added to what the first layers of the language model compute (DeepStack, arXiv
    2406.04334).
    """

    rows: Tensor
    layers: tuple[Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + sum(layer.nbytes for layer in self.layers)


class PictureEmbeddings:
    """Asks a transformers model's `get_image_features`. Keeps the embeddings used last, at most `most_bytes` of them."""

    def __init__(self, model: Any, most_bytes: int) -> None:
        self._model = model
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self.nbytes = 0
        """Of what is kept."""
        self.encoded = 0
        """Pictures that went through the tower so far."""
        self.seconds = 0.0
        """That they took."""

    def of(self, placements: Iterable[Placement]) -> dict[str, Embedding]:
        """Embeddings by digest. Raises ValueError when the tower gives another number of them than there are placeholders."""
        wanted = {placement.digest: placement for placement in placements}
        found = {name: self._kept[name] for name in wanted if name in self._kept}
        missing = [placement for name, placement in wanted.items() if name not in found]
        began = time.perf_counter()
        for group in _alike(missing):
            found |= self._encode(group)
        self.seconds += time.perf_counter() - began
        for name, embedding in found.items():
            self._keep(name, embedding)
        return found

    def forget(self) -> None:
        """Everything, because the weights have changed."""
        self._kept.clear()
        self.nbytes = 0

    @torch.inference_mode()
    def _encode(self, group: list[Placement]) -> dict[str, Embedding]:
        output = self._model.get_image_features(**together(self._model, group), return_dict=True)
        sizes = [one.size for one in group]
        rows = _split(output.pooler_output, sizes)
        layers = [_split(layer, sizes) for layer in getattr(output, "deepstack_features", None) or ()]
        self.encoded += len(group)
        return {
            one.digest: Embedding(rows[at], tuple(layer[at] for layer in layers)) for at, one in enumerate(group)
        }

    def _keep(self, name: str, embedding: Embedding) -> None:
        if name not in self._kept:
            self.nbytes += embedding.nbytes
        self._kept[name] = embedding
        self._kept.move_to_end(name)
        while self.nbytes > self._most_bytes:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes


def together(model: Any, placements: Sequence[Placement]) -> dict[str, Tensor]:
    """The vision tower's arguments for all of them at once, where the model is and in its arithmetic."""
    joined = {name: torch.cat([one.inputs[name] for one in placements]) for name in placements[0].inputs}
    return {
        name: one.to(model.device, model.dtype if one.is_floating_point() else one.dtype) for name, one in joined.items()
    }


def _alike(placements: Iterable[Placement]) -> list[list[Placement]]:
    """Groups whose tensors can be put one behind the other."""
    groups: dict[Any, list[Placement]] = {}
    for placement in placements:
        groups.setdefault(_shapes(placement.inputs), []).append(placement)
    return list(groups.values())


def _shapes(inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
    return tuple((name, tensor.dtype, tuple(tensor.shape[1:])) for name, tensor in sorted(inputs.items()))


def _split(features: Any, sizes: list[int]) -> list[Tensor]:
    """[pictures' rows, hidden_size], in whatever pieces they come, as a tensor of its own for each picture."""
    pieces = [features] if isinstance(features, Tensor) else features
    rows = torch.cat([piece.reshape(-1, piece.shape[-1]) for piece in pieces])
    if len(rows) != sum(sizes):
        raise ValueError(f"the vision tower made {len(rows)} embeddings for {sum(sizes)} placeholders")
    return [part.clone() for part in rows.split(sizes)]
