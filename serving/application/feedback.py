"""Where feedback is kept while a server collects it. What a judgement is, the lifecycle says, which learns from them."""

from __future__ import annotations

from typing import Protocol

from lifecycle.feedback.judgements import Feedback


class FeedbackStore(Protocol):
    """Keeps feedback. Safe from any thread, and beside other processes on the same data."""

    def add(self, feedback: Feedback) -> None:
        """Durable when it returns. Raises `FeedbackUnavailable`."""

    def page(self, limit: int, *, after: str | None = None, tenant: str | None = None) -> list[Feedback]:
        """Newest first; those older than the one with the id `after`. Raises `InvalidRequest` for an id never seen."""

    def all(self, *, tenant: str | None = None) -> list[Feedback]:
        """Oldest first, of one tenant or of all."""
