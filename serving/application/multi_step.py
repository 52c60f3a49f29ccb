"""Multi-step decoding: when nothing can change between two steps, let the model take several in a row.

What the engine does between two steps (deciding, delivering, waking up who reads) takes as long for a small model as for
a large one, and with a small model it is most of the time. While nobody else could be let in, and every running sequence
only goes on with tokens that the backend chooses itself, the next decision is known: the same again. So the model generates
a few tokens for each without coming back. A request that arrives meanwhile, or waits for one to end, waits for them, which
bounds how many there may be.
"""

from __future__ import annotations

from collections.abc import Callable

from serving.domain.scheduler import Scheduler, Work
from serving.domain.sequence import Sequence

MOST_PASSES = 32
SMOOTHING = 0.25


class MultiStep:
    """Adds tokens ahead to a step that is planned already. Belongs to the engine's thread.

    `seconds`: how long a step may take; 0 leaves every step at one pass. `room`: tokens that a sequence may generate before its
    reader takes some.
    """

    def __init__(self, scheduler: Scheduler, seconds: float, room: Callable[[Sequence], float]) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self._room = room
        self._pass_seconds: dict[int, float] = {}  # by the number of sequences; slow to rise

    def extend(self, work: list[Work]) -> list[Work]:
        """The same work, with as many passes as fit into the time and as every answer has room for."""
        expected = self._pass_seconds.get(len(work))
        could_begin = self._scheduler.num_waiting and self._scheduler.num_running < self._scheduler.limits.max_num_seqs
        if not expected or could_begin or len(work) < self._scheduler.num_running:
            return work
        ahead = min(MOST_PASSES, int(self._seconds / expected)) - 1
        if ahead < 1:
            return work
        for item in work:
            sampling = item.sequence.request.sampling
            if item.kind != "decode" or item.drafts or not sampling.is_plain:
                return work
            ahead = min(ahead, sampling.max_tokens - item.sequence.generated - 1)
            ahead = min(ahead, self._room(item.sequence) - 1)
        return self._scheduler.go_ahead(work, ahead) if ahead > 0 else work

    def observe(self, work: list[Work], seconds: float) -> None:
        """A step took so long."""
        if not self._seconds or not work or any(item.kind != "decode" or item.drafts for item in work):
            return
        measured = seconds / (1 + work[0].ahead)
        known = self._pass_seconds.get(len(work), measured)
        # Other programs make a step longer than it has to be, and nothing makes it shorter.
        self._pass_seconds[len(work)] = min(measured, known + SMOOTHING * (measured - known))
