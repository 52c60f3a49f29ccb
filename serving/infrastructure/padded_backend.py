"""Any Hugging Face causal LM as a `ModelBackend`, through transformers' own cache: slower than packing, and never wrong.

For recurrent hybrids, and for attention that no plug reaches. Each sequence has a cache of its own. Prompts are computed
one after the other; sequences that need one token are stacked into one cache, padded to the longest, and computed together.
They stay stacked while the same ones decode. Blocks are bookkeeping here: they limit memory, but hold nothing.

Every sequence's tokens are remembered, so whatever happens to a cache (a failed step, a step run again, new weights) it is
made anew from the first token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from serving.application.ports import SequenceSlice
from serving.infrastructure.adapted_model import AdaptedModel
from serving.infrastructure.cache_batch import cache_bytes, empty_cache, grows, shorten, stack, take
from serving.infrastructure.causal_lm import CausalLM
from serving.infrastructure.conformance import CHECKED, UnsupportedArchitecture, disagreement
from serving.infrastructure.lora import LoraWeights
from serving.infrastructure.pool_size import MEBIBYTE, blocks_that_fit

TOKEN_BYTES = 64  # what remembering a token costs, also where the model's memory does not grow with its text


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an architecture's cache can do, found by trying."""

    caches: bool = True
    """Tokens can follow a state at all; else every step computes its sequences from their first token."""
    stacks: bool = True
    """Sequences of different length can share a cache."""
    continues: bool = True
    """Several tokens at once can follow a state; else they do one by one."""

    def __str__(self) -> str:
        if not self.caches:
            return "without a cache"
        lacks = [] if self.stacks else ["one sequence at a time"]
        lacks += [] if self.continues else ["later chunks token by token"]
        return ", ".join(lacks) or "decodes together"


LADDER = (
    *(Abilities(True, stacks, continues) for stacks, continues in product((True, False), repeat=2)),
    Abilities(caches=False, stacks=False, continues=False),
)


@dataclass(slots=True)
class _State:
    """`tokens` are those whose effect the cache holds. No cache: it is in the cohort, or has to be made anew."""

    tokens: list[int]
    cache: Cache | None = None


@dataclass(slots=True)
class _Cohort:
    """Sequences that decode in one cache; padding [rows] positions on the left of each."""

    ids: list[str]
    cache: Cache
    padding: list[int]


class PaddedTorchBackend:
    """Owns a transformers model and its caches. Call it from one thread.

    Raises UnsupportedArchitecture when not even computing each sequence from its first token gives the model's logits.
    """

    shares_prefixes = False
    takes_adapters = True

    def __init__(
        self,
        model: Any,
        *,
        block_size: int = 16,
        num_blocks: int | None = None,
        kv_bytes: int = 512 * MEBIBYTE,
        max_num_seqs: int = 32,
    ) -> None:
        self._lm = CausalLM(model)
        self.model = self._lm.model
        self._adapted = AdaptedModel(self.model)
        self.vocab_size = self._lm.vocab_size
        self.block_size = block_size
        self._cache_argument, cache = self._lm.own_cache() or ("", None)
        self._cache_class = type(cache) if isinstance(cache, Cache) else None
        self._states: dict[str, _State] = {}
        self._cohort: _Cohort | None = None
        self.abilities = self._climb_down()
        per_token, per_sequence = self._memory()
        # What grows with the text can be cut back; a state that does not has mixed all of it up.
        self.can_rewind = not per_sequence
        self.goes_ahead = False
        room = max(0, kv_bytes - max_num_seqs * per_sequence)
        self.num_blocks = blocks_that_fit(room, per_token * block_size) if num_blocks is None else num_blocks

    def execute(self, batch: Sequence[SequenceSlice]) -> Tensor:
        """Logits [sum of num_logits, vocab_size]."""
        try:
            rows: list[Tensor | None] = [None] * len(batch)
            together = [at for at, item in enumerate(batch) if self._decodes(item)] if self.abilities.stacks else []
            if together:
                for at, logits in zip(together, self._decode([batch[at] for at in together]), strict=True):
                    rows[at] = logits[None]
            for at, item in enumerate(batch):
                if rows[at] is None:
                    with self._adapted.everywhere(item.adapter):
                        rows[at] = self._advance(item)
        except BaseException:
            self._distrust(item.id for item in batch)
            raise
        return torch.cat([part[len(part) - item.num_logits :] for part, item in zip(rows, batch, strict=True)])

    def seconds(self) -> Mapping[str, float]:
        """Nothing: torch does not tell."""
        return {}

    def add_adapter(self, adapter_id: str, weights: LoraWeights) -> None:
        """Checked like the model: a sequence with the adapter beside one without. Raises LifecycleError when it does not fit."""
        self._adapted.add(adapter_id, weights)
        try:
            self._adapted.check(self._lm, self.execute, self.block_size, adapter_id)
        except BaseException:
            self._adapted.remove(adapter_id)
            raise
        finally:
            for name in CHECKED:
                self.release(name)

    def remove_adapter(self, adapter_id: str) -> None:
        """Forget an adapter that no slice will name any more."""
        self._adapted.remove(adapter_id)

    def release(self, sequence_id: str) -> None:
        """Forget a sequence."""
        if self._cohort and sequence_id in self._cohort.ids:
            self._dissolve()
        self._states.pop(sequence_id, None)

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Copy new parameters in. Raises ValueError when names are unknown or missing (tied ones may be missing)."""
        self._lm.update_weights(state_dict)
        self._distrust(list(self._states))

    # -- one sequence -------------------------------------------------------------------------------------------------

    def _decodes(self, item: SequenceSlice) -> bool:
        """Whether one token follows exactly what is held."""
        state = self._states.get(item.id)
        held = state is not None and (state.cache is not None or self._in_cohort(item.id))
        return held and len(item.tokens) == 1 and item.start == len(state.tokens) > 0

    def _advance(self, item: SequenceSlice) -> Tensor:
        """Logits [num_logits, vocab] after the slice's last tokens."""
        if self._in_cohort(item.id):
            self._dissolve()
        state = self._states.setdefault(item.id, _State([]))
        if item.start > len(state.tokens):
            raise ValueError(f'"{item.id}" goes on at {item.start}, but only {len(state.tokens)} tokens were computed')
        tokens = [*state.tokens[: item.start], *item.tokens]
        if self.abilities.caches:
            cache, done = self._resume(state, item.start)
            logits = self._extend(cache, tokens, done, item.num_logits)
        else:
            cache = None
            rows = self._lm.ids(range(len(tokens) - item.num_logits, len(tokens)))
            logits = self._lm.logits(rows, input_ids=self._lm.ids([tokens]), use_cache=False)[0]
        state.tokens, state.cache = tokens, cache  # only now: a forward may fail, and the old tokens are needed then
        return logits

    def _resume(self, state: _State, start: int) -> tuple[Cache, int]:
        """A cache that holds the first `start` tokens, or an empty one when there is none; and how many it holds."""
        if state.cache is not None and start == len(state.tokens):
            return state.cache, start
        if state.cache is not None and start and not cache_bytes(state.cache)[1]:
            return shorten(state.cache, start), start
        return self._empty(), 0

    def _extend(self, cache: Cache, tokens: list[int], done: int, wanted: int) -> Tensor:
        """Logits [wanted, vocab] after the last of `tokens`, of which the cache holds the first `done`."""
        todo = tokens[done:]
        parts = []
        for chunk in [todo] if self.abilities.continues or not done else [[token] for token in todo]:
            parts.append(self._forward(cache, [chunk], [done], [0], min(wanted, len(chunk)))[0])
            done += len(chunk)
        logits = torch.cat(parts)
        return logits[len(logits) - wanted :]

    # -- many sequences -----------------------------------------------------------------------------------------------

    def _decode(self, batch: Sequence[SequenceSlice]) -> Tensor:
        """Logits [sequences, vocab], one more token each."""
        if self._cohort is None or set(self._cohort.ids) != {item.id for item in batch}:
            self._dissolve()
            self._gather([item.id for item in batch])
        cohort, items = self._cohort, {item.id: item for item in batch}
        tokens = [items[name].tokens[0] for name in cohort.ids]
        starts = [items[name].start for name in cohort.ids]
        with self._adapted.by_rows([items[name].adapter for name in cohort.ids]):
            logits = self._forward(cohort.cache, [[token] for token in tokens], starts, cohort.padding, 1)[:, 0]
        for name, token in zip(cohort.ids, tokens, strict=True):
            self._states[name].tokens.append(token)
        place = {name: row for row, name in enumerate(cohort.ids)}
        return logits[self._lm.ids([place[item.id] for item in batch])]

    def _gather(self, ids: list[str]) -> None:
        states = [self._states[name] for name in ids]
        lengths = [len(state.tokens) for state in states]
        cache = stack([state.cache for state in states], lengths)
        self._cohort = _Cohort(ids, cache, [max(lengths) - length for length in lengths])
        for state in states:
            state.cache = None

    def _dissolve(self) -> None:
        """Give every member of the cohort its own cache back."""
        cohort, self._cohort = self._cohort, None
        if cohort is not None:
            for row, name in enumerate(cohort.ids):
                state = self._states[name]
                state.cache = take(cohort.cache, row, len(state.tokens))

    def _in_cohort(self, sequence_id: str) -> bool:
        return self._cohort is not None and sequence_id in self._cohort.ids

    def _distrust(self, ids: Any) -> None:
        """A step failed half-way: the caches that took part are worth nothing, the tokens are."""
        names = {*ids, *(self._cohort.ids if self._cohort else ())}
        self._cohort = None
        for name in names & self._states.keys():
            self._states[name].cache = None

    def _forward(
        self, cache: Cache, tokens: list[list[int]], starts: list[int], padding: list[int], wanted: int
    ) -> Tensor:
        """Logits [rows, wanted, vocab] after each row's last tokens. `starts` are true positions, `padding` is left of them."""
        count, ids = len(tokens[0]), self._lm.ids
        inputs = {
            "input_ids": ids(tokens),
            "position_ids": ids([[start + i for i in range(count)] for start in starts]),
            self._cache_argument: cache,
        }
        if any(padding) and grows(cache):  # a state has no padding, and its layers misread a mask of the whole length
            mask = [[0] * pad + [1] * (start + count) for pad, start in zip(padding, starts, strict=True)]
            inputs["attention_mask"] = ids(mask)
        return self._lm.logits(ids(range(count - wanted, count)), **inputs, use_cache=True)

    def _empty(self) -> Cache:
        return empty_cache(self._cache_class, self._lm.config)

    # -- once, at the start -------------------------------------------------------------------------------------------

    def _climb_down(self) -> Abilities:
        """The most that this architecture can do."""
        failure: Exception | None = None
        for abilities in LADDER if self._cache_class else LADDER[-1:]:
            self.abilities = abilities
            try:
                if disagreement(self._lm, self.execute, self.block_size) <= 1:
                    return abilities
            except Exception as error:  # whatever an architecture does to input that it does not expect
                failure = error
            finally:
                self._states.clear()
                self._cohort = None
        raise UnsupportedArchitecture(
            f"{self._lm.name} gives other logits in chunks than at once, whatever is tried"
        ) from failure

    def _memory(self) -> tuple[int, int]:
        """(bytes per token, bytes per sequence) of a cache, from one that holds eight tokens."""
        if not self.abilities.caches:
            return TOKEN_BYTES, 0
        cache = self._empty()
        self._forward(cache, [[1] * 8], [0], [0], 1)
        growing, constant = cache_bytes(cache)
        return growing // 8 + TOKEN_BYTES, constant
