"""Several LoRA adapters on one model, each row of a batch with its own or none.

The base computes all rows at once as ever; a hook on each adapted layer then adds B (A x) to the rows of each adapter that
is in the step. Rows without an adapter are not touched. What kind of layer it is does not matter: the hook sees its input
and its output. Batching adapters this way is the idea of Punica (arXiv 2310.18547) and S-LoRA (arXiv 2311.03285).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lifecycle.errors import LifecycleError
from serving.infrastructure.causal_lm import CausalLM
from serving.infrastructure.conformance import disagreement
from serving.infrastructure.lora import LoraWeights

Pair = tuple[Tensor, Tensor]


@dataclass(slots=True)
class Routing:
    """Whose rows are where in the step that is being computed."""

    everybody: str | None = None
    """All rows of all layers are this adapter's."""
    rows: Sequence[tuple[int, dict[str, Tensor]]] = ()
    """(rows in a layer's input, indices by adapter): the layers of a step see all of its tokens, and its head perhaps only
    those whose logits are wanted."""

    def of(self, count: int) -> dict[str, Tensor]:
        """Rows by adapter in an input of `count` rows."""
        for known, indices in self.rows:
            if known == count:
                return indices
        raise ValueError(f"a layer with an adapter sees {count} rows, which are not the step's tokens")


class AdaptedModel:
    """Owns the hooks on a transformers model. Call it from the thread that computes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layers: dict[str, dict[str, Pair]] = {}  # by layer, then by adapter
        self._hooks: dict[str, Any] = {}
        self._routing: Routing | None = None

    def add(self, adapter_id: str, weights: LoraWeights) -> None:
        """Raises LifecycleError, and nothing has changed, when a layer is missing or of another size."""
        found: dict[str, tuple[nn.Module, Pair]] = {}
        for name, (down, up) in weights.layers.items():
            try:
                layer = self._model.get_submodule(name)
            except AttributeError:
                raise LifecycleError(f"the adapter is of another model: this one has no layer {name}") from None
            shape, own = (len(up), down.shape[1]), tuple(getattr(getattr(layer, "weight", None), "shape", ()))
            if own not in (shape, shape[::-1]):  # GPT-2's layers store their weights transposed
                raise LifecycleError(
                    f"the adapter is of another model: it wants {name} to be {shape[0]} x {shape[1]}, and here it is "
                    + (" x ".join(map(str, own)) or "no linear layer")
                )
            place = {"device": self._model.device, "dtype": self._model.dtype}
            found[name] = (layer, (down.to(**place), up.to(**place)))
        for name, (layer, pair) in found.items():
            if name not in self._hooks:
                self._layers[name] = {}
                self._hooks[name] = layer.register_forward_hook(self._hook(self._layers[name]))
            self._layers[name][adapter_id] = pair

    def remove(self, adapter_id: str) -> None:
        """Layers without any adapter left are as they were before the first."""
        for name, pairs in list(self._layers.items()):
            pairs.pop(adapter_id, None)
            if not pairs:
                self._hooks.pop(name).remove()
                del self._layers[name]

    def check(self, lm: CausalLM, execute: Callable[..., Tensor], block_size: int, adapter_id: str) -> None:
        """Raises LifecycleError unless `execute` gives a sequence with the adapter, and one without, what each gets alone."""

        def alone(tokens: Sequence[int], adapter: str | None) -> Tensor:
            with self.everywhere(adapter):
                return lm.reference(tokens)

        try:
            error = disagreement(lm, execute, block_size, adapters=(adapter_id, None), reference=alone)
        except Exception as failure:  # whatever an architecture does to rows on their way to a layer
            raise LifecycleError(f"{lm.name} cannot batch this adapter: {failure}; merge it instead") from failure
        if error > 1:
            raise LifecycleError(
                f"{lm.name} computes something else when sequences with and without this adapter are batched (error "
                f"{error:.1e} of what its dtype forgives): merge it instead"
            )

    @contextmanager
    def everywhere(self, adapter_id: str | None) -> Iterator[None]:
        """Every row of every forward inside is this adapter's."""
        with self._routed(None if adapter_id is None else Routing(everybody=adapter_id)):
            yield

    @contextmanager
    def by_rows(self, *layouts: Sequence[str | None]) -> Iterator[None]:
        """For a forward whose layers see the rows of one of the layouts: whose each row is."""
        adapted = any(owner is not None for layout in layouts for owner in layout)
        with self._routed(Routing(rows=[(len(one), self._indices(one)) for one in layouts]) if adapted else None):
            yield

    def _indices(self, owners: Sequence[str | None]) -> dict[str, Tensor]:
        indices: dict[str, list[int]] = {}
        for row, owner in enumerate(owners):
            if owner is not None:
                indices.setdefault(owner, []).append(row)
        return {owner: torch.tensor(rows, device=self._model.device) for owner, rows in indices.items()}

    @contextmanager
    def _routed(self, routing: Routing | None) -> Iterator[None]:
        self._routing = routing
        try:
            yield
        finally:
            self._routing = None

    def _hook(self, pairs: dict[str, Pair]) -> Any:
        def add_deltas(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            routing = self._routing
            if routing is None:
                return None
            if routing.everybody is not None:
                pair = pairs.get(routing.everybody)
                return None if pair is None else output + _delta(args[0], pair)
            inputs, outputs = args[0].flatten(0, -2), output.flatten(0, -2)
            for owner, rows in routing.of(len(inputs)).items():
                if owner in pairs:
                    outputs.index_add_(0, rows, _delta(inputs[rows], pairs[owner]))
            return outputs.view(output.shape)

        return add_deltas


def _delta(rows: Tensor, pair: Pair) -> Tensor:
    """[..., inputs] to [..., outputs]; both products in the model's own dtype."""
    down, up = pair
    return F.linear(F.linear(rows, down), up)
