"""Keeps the alias "candidate" of the registry on trial beside production, and takes back what does worse.

    candidate -> X       X is loaded beside production and gets its share of requests, seen or unseen
    X does worse         no request goes to it any more; candidate moves to production's version, with the reason
    production -> X      the engine that is on trial takes over: nothing is loaded again
    it does worse        (`canary_watch`) production moves back, with the reason; never to a version that it left before

One thread, which also follows the alias of production. Whatever the registry refuses is one line in the log, and what
answers goes on answering.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from lifecycle.registry.aliases import CANDIDATE
from serving.application.canary import Canary, Trial
from serving.application.ports import ModelCatalog
from serving.domain.canary import Sample
from serving.domain.errors import ServingError
from serving.infrastructure.catalog import BUSY
from serving.infrastructure.following import Follower

log = logging.getLogger(__name__)

DRAIN_SECONDS = 3600.0  # what a version that leaves has begun, it finishes

Examine = Callable[[str, str, int], list[str]]
"""(candidate, production, tasks of each skill) to what the candidate's report card is worse in."""


def examine(registry: ModelRegistry, candidate: str, production: str, tasks: int) -> list[str]:
    """An `Examine`. Raises LifecycleError for a damaged version."""
    from lifecycle.deploy.gate import card
    from lifecycle.evaluation.card import setbacks

    return setbacks(*(card(registry.load(ref), tasks) for ref in (candidate, production)))


class Trials:
    """Looks every `seconds`; `follower` keeps `alias`, the one that is followed."""

    def __init__(
        self,
        catalog: ModelCatalog,
        registry: ModelRegistry,
        canary: Canary,
        follower: Follower,
        *,
        examine: Examine,
        seconds: float = 1.0,
    ) -> None:
        self._catalog, self._registry, self._canary, self._follower = catalog, registry, canary, follower
        self._alias, self._seconds, self._examine = follower.alias, seconds, examine
        self._refused: str | None = None
        self._exam: tuple[str, Future[list[str]]] | None = None
        self._examiner = ThreadPoolExecutor(1, thread_name_prefix="report card")
        self._production = catalog.get(self._alias).version
        self._probation: tuple[str, Sample, float] | None = None  # version before, what it came to, until when
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trials", daemon=True)

    def start(self) -> Trials:
        """Call it after a fork, never before."""
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._examiner.shutdown(cancel_futures=True)

    def look(self) -> None:
        """Everything once: who is followed, who is on trial, and how they do."""
        try:
            aliases = self._registry.aliases()
            self._take_over(aliases.get(self._alias))
            self._follower.look()
            self._watch_production()
            self._follow_candidate(aliases.get(CANDIDATE))
            self._judge_candidate()
        except (LifecycleError, ServingError) as error:
            if getattr(error, "code", None) != BUSY:
                log.warning("trials: %s", error)

    # -- the candidate ------------------------------------------------------------------------------------------------

    def _take_over(self, target: str | None) -> None:
        """Production has moved to the version on trial: its engine is there already, and the follower will find it."""
        trial = self._canary.trial
        if trial is None or target != trial.candidate.version:
            return
        self._end_trial()
        log.info("%s moved to %s, which was on trial", self._alias, target)

    def _end_trial(self) -> None:
        """The version on trial is needed otherwise, and stays."""
        self._canary.trial = None
        self._catalog.remove_alias(CANDIDATE)

    def _follow_candidate(self, target: str | None) -> None:
        trial, production = self._canary.trial, self._catalog.get(self._alias).version
        wanted = None if target in (production, self._refused) or not self._tries else target
        if trial is not None and trial.candidate.version != wanted:
            self._withdraw(trial)
            trial = None
        if wanted is None or trial is not None:
            return
        if (worse := self._card(wanted, production)) is None:
            return
        if worse:
            return self._give_up(wanted, f"its report card is worse in: {'; '.join(worse)}")
        try:
            model = self._catalog.load(wanted)
            model = self._catalog.set_alias(CANDIDATE, model.name)
        except ServingError as error:
            if getattr(error, "code", None) == BUSY:
                raise
            self._refused = wanted
            log.warning("%s cannot be tried, and %s goes on answering: %s", wanted, production, error)
            return
        self._canary.windows.forget(wanted)
        self._canary.trial = Trial(self._alias, model)
        log.info("%s is on trial beside %s", wanted, production)

    def _card(self, candidate: str, production: str) -> list[str] | None:
        """What its report card is worse in; None while it is being made."""
        tasks = self._canary.rules.canary_card
        if not tasks:
            return []
        between = candidate, production
        if self._exam is None or self._exam[0] != between:
            self._exam = between, self._examiner.submit(self._examine, candidate, production, tasks)
        future = self._exam[1]
        if not future.done():
            return None
        if (error := future.exception()) is None:
            return future.result()
        self._exam, self._refused = None, candidate
        log.warning("%s cannot be examined, and %s goes on answering: %s", candidate, production, error)
        return None

    def _judge_candidate(self) -> None:
        trial = self._canary.trial
        if trial is not None and (why := self._canary.judge(trial.candidate.version, self._production)):
            self._withdraw(trial)
            self._give_up(trial.candidate.version, why)

    def _give_up(self, version: str, why: str) -> None:
        """On record, so that every other server that tries it stops, too."""
        self._refused = version
        self._canary.rollbacks[CANDIDATE] += 1
        log.warning("%s is off trial, %s goes on answering: %s", version, self._production, why)
        if self._registry.aliases().get(CANDIDATE) == version:
            self._registry.set_alias(CANDIDATE, self._production, f"{version} rolled back: {why}")

    def _withdraw(self, trial: Trial) -> None:
        self._canary.trial = None
        name = trial.candidate.version
        threading.Thread(target=self._unload, args=(name,), name=f"withdraw {name}", daemon=True).start()

    def _unload(self, name: str) -> None:
        try:
            self._catalog.unload(name, DRAIN_SECONDS)
        except ServingError as error:
            log.warning("%s stays in memory: %s", name, error)

    @property
    def _tries(self) -> bool:
        return self._canary.rules.canary_percent > 0 or self._canary.rules.shadow_percent > 0

    # -- production ---------------------------------------------------------------------------------------------------

    def _watch_production(self) -> None:
        version = self._catalog.get(self._alias).version
        if version != self._production:
            before, self._production = self._production, version
            self._refused = None
            new = self._canary.rules.canary_watch and not self._was_left(version)
            until = time.monotonic() + self._canary.rules.canary_window
            self._probation = (before, self._canary.windows.sample(before), until) if new else None
        if self._probation is None:
            return
        before, came_to, until = self._probation
        if why := self._canary.judge(version, came_to):
            self._roll_back(version, before, why)
        elif time.monotonic() > until:
            self._probation = None

    def _was_left(self, version: str) -> bool:
        """Whether production has come back to it: somebody wanted that."""
        targets = [move.target for move in self._registry.alias_moves() if move.alias == self._alias]
        return version in targets[:-1]

    def _roll_back(self, version: str, before: str, why: str) -> None:
        """Here first: the registry may be read-only, or its disk full."""
        self._follower.reject(version)
        if self._canary.trial is not None and self._canary.trial.candidate.version == before:
            self._end_trial()
        self._follower.move(before)  # where it cannot be now, the next look will try
        self._probation, self._production = None, before
        self._canary.rollbacks[self._alias] += 1
        log.warning("%s goes back from %s to %s: %s", self._alias, version, before, why)
        if self._registry.aliases().get(self._alias) == version:
            self._registry.set_alias(self._alias, before, f"{version} rolled back: {why}")

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.look()
            except Exception:
                log.exception("looking after trials failed")
