"""POST /admin/policy."""

from __future__ import annotations

from serving.presentation.schemas.base import Wire


class PolicyRequest(Wire):
    """Which batching policy to use from the next step on."""

    policy: str
    model: str | None = None
    """By default every model."""
