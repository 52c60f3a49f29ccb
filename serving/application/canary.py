"""Trials of a new version under the traffic of the one in place: routing, windows, the verdict.

    HTTP thread:   route(model, name, key) -> who answers          after(generation, outcome)
    a controller:  put(candidate), verdicts(), withdraw(why)       (`serving.infrastructure.trials`)
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.application.deltas import ChoiceFinished, Delta, TextDelta, ThoughtDelta, ToolCallDelta
from serving.application.generation import Generation
from serving.application.ports import ServedModel
from serving.domain.canary import CanaryRules, Outcome, Sample, chosen, judge, summarize
from serving.domain.errors import Draining, GrammarTooComplex, ServingError

log = logging.getLogger(__name__)

MOST = 4096  # outcomes kept of a version
SHADOWS = 8  # answers nobody sees that are computed at the same time
ABANDONED = 3600.0  # seconds after which nobody will tell how the answer that was given ended
TICK = 0.5  # seconds between two looks at whether the engine of a shadow still works
SAME, DIFFERENT, FAILED, SKIPPED = "same", "different", "failed", "skipped"


class Windows:
    """Outcomes of the last `seconds`, by version. Safe from any thread."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = threading.Lock()
        self._kept: dict[str, deque[tuple[float, Outcome]]] = {}

    def add(self, version: str, outcome: Outcome) -> None:
        with self._lock:
            self._kept.setdefault(version, deque(maxlen=MOST)).append((self._clock(), outcome))

    def sample(self, version: str) -> Sample:
        with self._lock:
            kept = self._kept.get(version, deque())
            while kept and kept[0][0] < self._clock() - self._seconds:
                kept.popleft()
            return summarize(outcome for _, outcome in kept)

    def forget(self, version: str) -> None:
        with self._lock:
            self._kept.pop(version, None)


@dataclass(frozen=True, slots=True)
class Trial:
    """`candidate` is tried beside the model that goes by `alias`."""

    alias: str
    candidate: ServedModel


@dataclass(slots=True)
class Canary:
    """One per server. Safe from any thread: a request sees a trial or none, never half of one."""

    rules: CanaryRules
    clock: Callable[[], float] = time.monotonic
    windows: Windows = field(init=False)
    shadows: Counter[str] = field(default_factory=Counter)
    """Answers nobody saw, by how they compare with those that were given."""
    rollbacks: Counter[str] = field(default_factory=Counter)
    """Versions that were taken back, by what they had been: "candidate" or "production"."""
    trial: Trial | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _places: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(SHADOWS))

    def __post_init__(self) -> None:
        self.windows = Windows(self.rules.canary_window, self.clock)

    def route(self, model: ServedModel, name: str | None, key: str) -> ServedModel:
        """Who answers a request for `model` that called it `name`: the candidate for its share, else `model`.

        Whoever asks for a version gets that version.
        """
        trial = self.trial
        if trial is None or not self._concerns(trial, model, name):
            return model
        return trial.candidate if chosen(key, trial.candidate.version, self.rules.canary_percent) else model

    def shadow(self, generation: Generation, begin: Callable[[ServedModel], Generation], name: str | None, key: str) -> Shadow | None:
        """Ask the candidate the same, if this request is among the share; whoever follows `generation` tells the result."""
        trial = self.trial
        if trial is None or not self._concerns(trial, generation.model, name):
            return None
        if not chosen(key, f"shadow {trial.candidate.version}", self.rules.shadow_percent):
            return None
        if not self._places.acquire(blocking=False):
            self.count(SKIPPED)
            return None
        shadow = Shadow(self)
        threading.Thread(target=shadow.run, args=(begin, trial.candidate), name="shadow", daemon=True).start()
        return shadow

    def observe(self, version: str, outcome: Outcome) -> None:
        """A request has ended."""
        self.windows.add(version, outcome)

    def judge(self, candidate: str, baseline: str | Sample) -> str | None:
        """Why the version `candidate` has to go, beside another version or what one came to before."""
        before = self.windows.sample(baseline) if isinstance(baseline, str) else baseline
        return judge(self.windows.sample(candidate), before, self.rules)

    @staticmethod
    def _concerns(trial: Trial, model: ServedModel, name: str | None) -> bool:
        return (
            trial.alias in (model.name, *model.aliases)
            and name != model.version
            and model.sees <= trial.candidate.sees
            and trial.candidate.version != model.version
        )

    def count(self, result: str) -> None:
        """A shadow has ended."""
        with self._lock:
            self.shadows[result] += 1

    def release(self) -> None:
        self._places.release()


class Shadow:
    """An answer that nobody sees: read to its end on a thread of its own, then compared with the one that was given."""

    def __init__(self, canary: Canary) -> None:
        self._canary = canary
        self._given: list[tuple[int, str]] = []
        self._over = threading.Event()
        self._whole = False

    def heard(self, deltas: list[Delta]) -> None:
        """More of the answer that is given."""
        self._given += _texts(deltas)

    def end(self, whole: bool) -> None:
        """The answer has been given; not `whole`: its client left, or it failed."""
        self._whole = whole
        self._over.set()

    def run(self, begin: Callable[[ServedModel], Generation], candidate: ServedModel) -> None:
        try:
            texts = self._answer(begin, candidate)
            self._over.wait(ABANDONED)
            if texts is None:
                self._canary.count(FAILED)
            elif self._whole:
                self._canary.count(SAME if texts == _joined(self._given) else DIFFERENT)
        except ServingError:  # the candidate is not one to be asked this
            self._canary.count(SKIPPED)
        finally:
            self._canary.release()

    def _answer(self, begin: Callable[[ServedModel], Generation], candidate: ServedModel) -> dict[int, str] | None:
        """The whole answer by choice, or None: it failed. Raises a refusal that does not tell against the candidate."""
        started, first, tokens, told = time.monotonic(), None, 0, []
        failed = False
        try:
            generation = begin(candidate)
            for deltas in generation.updates(TICK):
                told += _texts(deltas)
                tokens = sum(choice.completion_tokens for choice in generation.choices)
                first = first if first is not None or not tokens else time.monotonic()
                failed |= any(isinstance(one, ChoiceFinished) and is_failure(one) for one in deltas)
        except ServingError as error:
            if not tells_against(error):
                raise
            failed = True
        except Exception:
            log.exception("a shadow of %s broke", candidate.version)
            failed = True
        gap = (time.monotonic() - first) / (tokens - 1) if first is not None and tokens > 1 else None
        self._canary.observe(candidate.version, Outcome(failed, None if first is None else first - started, gap))
        return None if failed else _joined(told)


def tells_against(error: ServingError) -> bool:
    """Whether a refusal is a failure of the version that it comes from, and neither what was asked nor that it is leaving."""
    return (error.status >= 500 or error.status == 429) and not isinstance(error, Draining)


def is_failure(end: ChoiceFinished) -> bool:
    """Whether the end of an answer is a failure of its version; a grammar that turns out to be too complex is what was asked."""
    return end.reason == "error" and end.error != GrammarTooComplex.code


def _texts(deltas: list[Delta]) -> list[tuple[int, str]]:
    """What was said and called, in its order."""
    return [(one.choice, _text(one)) for one in deltas if isinstance(one, ThoughtDelta | TextDelta | ToolCallDelta)]


def _text(delta: ThoughtDelta | TextDelta | ToolCallDelta) -> str:
    """Without the id of a call, which is another one every time."""
    return f"<tool_call>{delta.name}({delta.arguments})</tool_call>" if isinstance(delta, ToolCallDelta) else delta.text


def _joined(pieces: list[tuple[int, str]]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for choice, text in pieces:
        texts[choice] = texts.get(choice, "") + text
    return texts
