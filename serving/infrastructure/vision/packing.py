"""Pictures in a packed step: their embeddings at the rows of their placeholders, and positions in three dimensions."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lifecycle.errors import LifecycleError
from serving.application.ports import SequenceSlice
from serving.infrastructure.conformance import UnsupportedArchitecture
from serving.infrastructure.packed_step import PackedStep
from serving.infrastructure.vision.embeddings import Embedding, PictureEmbeddings

DEEPSTACK = ("visual_pos_masks", "deepstack_visual_embeds")
"""What a language model calls the rows of pictures and what its first layers add there."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows `row` to `row + count` of the packed step are the embeddings of a picture from number `first` on."""

    digest: str
    row: int
    first: int
    count: int


class Sight:
    """Puts what a model sees into its packed steps."""

    def __init__(self, model: Any, most_bytes: int) -> None:
        self._model = model
        self._decoder = model.get_decoder()
        self._rotates = any(hasattr(module, "get_rope_index") for module in model.modules())
        self.embeddings = PictureEmbeddings(model, most_bytes)

    def forget(self) -> None:
        """What was seen, because the weights have changed."""
        self.embeddings.forget()

    def refuse(self, adapted: Iterable[str]) -> None:
        """Raises LifecycleError for an adapter's layers that are not the language model's: what was seen is everybody's."""
        inside = {id(module) for module in (*self._decoder.modules(), self._model.get_output_embeddings())}
        layers = dict(self._model.named_modules())
        if outside := [name for name in adapted if name in layers and id(layers[name]) not in inside]:
            raise LifecycleError(
                f"the adapter changes {outside[0]}, and the embeddings of a picture are the same for everybody: train it on "
                "the language model's layers only, or merge it"
            )

    @torch.inference_mode()
    def inputs(self, step: PackedStep) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arguments of the model's forward in place of the step's tokens and positions, and those for `deep`."""
        positions = self._positions(step) if self._rotates else step.position_ids
        found = list(_pieces(step.slices))
        if not found:
            return {"input_ids": step.input_ids, "position_ids": positions}, {}
        names = {piece.digest for piece in found}
        known = self.embeddings.of(one for item in step.slices for one in item.media if one.digest in names)
        embeds = self._model.get_input_embeddings()(step.input_ids)
        for piece in found:
            rows = known[piece.digest].rows[piece.first : piece.first + piece.count]
            embeds[0, piece.row : piece.row + piece.count] = rows.to(embeds.dtype)
        return {"inputs_embeds": embeds, "position_ids": positions}, self._layers(found, known, embeds)

    def _layers(self, pieces: Sequence[_Piece], known: Mapping[str, Embedding], embeds: Tensor) -> dict[str, Any]:
        depth = len(known[pieces[0].digest].layers)
        if not depth:
            return {}
        if not set(DEEPSTACK) <= set(inspect.signature(self._decoder.forward).parameters):
            raise UnsupportedArchitecture("its pictures enter several layers in a way that is not known here")
        seen = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
        for piece in pieces:
            seen[0, piece.row : piece.row + piece.count] = True
        ordered = sorted(pieces, key=lambda piece: piece.row)
        layers = [
            torch.cat([known[one.digest].layers[at][one.first : one.first + one.count] for one in ordered])
            for at in range(depth)
        ]
        return dict(zip(DEEPSTACK, (seen, layers), strict=True))

    @staticmethod
    def _positions(step: PackedStep) -> Tensor:
        """[3, 1, T]: time, height and width of each row; all the same for a text, and for what follows a prompt."""
        positions = step.position_ids.repeat(3, 1)
        row = 0
        for item in step.slices:
            count = len(item.tokens)
            if item.positions is not None:
                positions[:, row : row + count] = _of_slice(item, positions.device)
            row += count
        return positions[:, None]


@contextmanager
def deep(model: Any, layers: Mapping[str, Any]) -> Iterator[None]:
    """Inside, the language model is given these arguments, which the model around it would not hand on."""
    if not layers:
        yield
        return
    hook = model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, **layers}), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def _pieces(slices: Sequence[SequenceSlice]) -> Iterator[_Piece]:
    row = 0
    for item in slices:
        stop = item.start + len(item.tokens)
        for placement in item.media:
            for position, first, count in placement.within(item.start, stop):
                yield _Piece(placement.digest, row + position - item.start, first, count)
        row += len(item.tokens)


def _of_slice(item: SequenceSlice, device: torch.device) -> Tensor:
    """[3, tokens]: those of the prompt, then one after the other from the largest."""
    length, stop = item.positions.shape[1], item.start + len(item.tokens)
    known = item.positions[:, item.start : stop].to(device)
    after = torch.arange(max(item.start, length), max(stop, length), device=device)
    return torch.cat([known, (after + int(item.positions.max()) + 1 - length).expand(3, -1)], dim=1)
