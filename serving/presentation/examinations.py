"""Report cards and promotions that the page asks for: minutes of work, so one at a time and on a thread beside serving."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry, ModelVersion
from serving.domain.errors import InvalidRequest, ServingError

log = logging.getLogger(__name__)

TASKS = 50  # of each skill, for a card that somebody waits for; the gate takes as many as the version was deployed with


class Busy(ServingError):
    """Another examination runs."""

    status = 409
    type = "invalid_request_error"
    code = "busy"


@dataclass(slots=True)
class Job:
    """`state`: idle, running, done, refused (by the gate) or failed; `lines` say what happened, in words."""

    kind: str = ""
    ref: str = ""
    state: str = "idle"
    lines: list[str] = field(default_factory=list)


def refusal(version: ModelVersion) -> str | None:
    """Why a version cannot even be considered for production; None when its report card decides."""
    from lifecycle.deploy.stage import NAME, PARENTS

    stage = version.manifest.stage
    if stage == NAME:
        return None
    if stage in PARENTS:
        return f"only deployed versions become production: lifecycle deploy --parent {version.ref}"
    return f'only deployed versions become production, and stage "{stage}" is not one that can be deployed'


class Examinations:
    """Safe from any thread. Cards are kept for as long as the server lives: a version never changes."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._job = Job()
        self._cards: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def job(self) -> dict[str, Any]:
        with self._lock:
            return asdict(self._job)

    def card(self, ref: str) -> dict[str, Any] | None:
        """The report card of a version, if it has been asked for before."""
        return self._cards.get(ref)

    def report(self, ref: str) -> None:
        """Score a version. Raises `Busy`."""
        self._start("report", ref, lambda job: self._report(ref, job))

    def promote(self, version: ModelVersion) -> None:
        """Move production through the gate. Raises `Busy`, and InvalidRequest for a version that was not deployed."""
        if (why := refusal(version)) is not None:
            raise InvalidRequest(f"{version.ref} cannot be promoted: {why}", param="ref")
        self._start("promote", version.ref, lambda job: self._promote(version.ref, job))

    def _start(self, kind: str, ref: str, work: Callable[[Job], str]) -> None:
        with self._lock:
            if self._job.state == "running":
                raise Busy(f"{self._job.kind} of {self._job.ref} is running: wait for it")
            job = self._job = Job(kind, ref, "running")
        threading.Thread(target=self._run, args=(job, work), name=f"{kind} {ref}", daemon=True).start()

    def _run(self, job: Job, work: Callable[[Job], str]) -> None:
        try:
            state = work(job)
        except LifecycleError as error:
            job.lines.append(str(error))
            state = "failed"
        except Exception as error:
            log.exception("%s of %s failed", job.kind, job.ref)
            job.lines.append(f"it failed ({type(error).__name__}); the server's log has the details")
            state = "failed"
        job.state = state

    def _report(self, ref: str, job: Job) -> str:
        from lifecycle.evaluation.card import report
        from lifecycle.evaluation.sets import LOWER_IS_BETTER

        rows = report([self._registry.load(ref)], limit=TASKS).rows
        self._cards[ref] = {"rows": [{**asdict(row), "lower_is_better": row.skill in LOWER_IS_BETTER} for row in rows]}
        return "done"

    def _promote(self, ref: str, job: Job) -> str:
        from lifecycle.deploy import DeployConfig, promote

        version = self._registry.load(ref)
        limit = version.manifest.config.get("report_limit")
        job.lines.append("comparing report cards with the version in place")
        moved = promote(version, DeployConfig(report_limit=limit), self._registry, job.lines.append)
        if moved and len(job.lines) == 1:
            job.lines.append(f"production is {ref} already")
        return "done" if moved else "refused"
