"""Which replica gets the next request: the lighter of two drawn at random, unless another one knows how the prompt begins.

The lighter of two random replicas is nearly as good as the lightest of all, without everybody rushing to the same one
(Mitzenmacher 2001). A replica that has a prompt's first blocks in its prefix cache is preferred to both as long as it has
not far more to do than the mean (consistent hashing with bounded loads, Mirrokni et al. 2016).
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from serving.domain.request import Request
from serving.domain.sequence import Sequence as RunningSequence

Name = TypeVar("Name", bound=Hashable)

OVERLOAD = 1.25
"""A preferred replica may have so many times the mean load, and one request more."""
REMEMBERED = 2**16
"""Beginnings of prompts whose replica is known, the least recently used of which are forgotten first."""
LEADING_BLOCKS = 64
"""So much of a prompt is looked at."""


class PrefixRouter:
    """Remembers where each beginning went. Not for several threads at once.

    A beginning is any key that stands for a prompt's tokens up to somewhere, as of `beginnings`.
    """

    def __init__(self, seed: int = 0, *, remembered: int = REMEMBERED) -> None:
        self._random = random.Random(seed)
        self._remembered = remembered
        self._homes: OrderedDict[Hashable, Hashable] = OrderedDict()

    def route(
        self, names: Sequence[Name], load: Callable[[Name], int], total: int, prefix: Sequence[Hashable] = ()
    ) -> Name:
        """One of `names`. `load` counts a replica's requests and `total` those of all; `prefix` goes from short to long."""
        limit = OVERLOAD * (total + 1) / len(names) + 1
        homes = (self._homes.get(key) for key in reversed(prefix))
        chosen = next((home for home in homes if home is not None and home in names), None)
        if chosen is None or load(chosen) > limit:
            chosen = self._lighter(names, load)
        for key in prefix:
            self._homes[key] = chosen
            self._homes.move_to_end(key)
        while len(self._homes) > self._remembered:
            self._homes.popitem(last=False)
        return chosen

    def _lighter(self, names: Sequence[Name], load: Callable[[Name], int]) -> Name:
        if len(names) == 1:
            return names[0]
        return min(self._random.sample(names, 2), key=load)


def beginnings(request: Request, block_size: int) -> list[bytes]:
    """A digest of each full leading block and of all before it: what an engine's prefix cache would share, and with whom.

    Tenant and adapter are in it, so that nobody is drawn to where somebody else's prompt is.
    """
    chain = RunningSequence(request, arrival=0.0, seed=0, block_size=block_size).chain
    return [chain.digest(at) for at in range(min(LEADING_BLOCKS, len(request.prompt_tokens) // block_size))]
