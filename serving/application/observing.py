"""What an engine tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable

from serving.domain.events import Finished
from serving.domain.plan import StepReport
from serving.domain.request import Request

Observation = Request | StepReport | Finished
Observer = Callable[[Observation], None]
