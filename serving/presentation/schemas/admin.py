"""Bodies for whoever runs the server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serving.presentation.schemas.base import Wire


class PolicyRequest(Wire):
    """Which batching policy to use from the next step on."""

    policy: str
    model: str | None = None
    """By default every model."""


class VersionRequest(Wire):
    """POST /registry/report and /registry/promote."""

    ref: Annotated[str, Field(min_length=1, max_length=200)]
    """A version, a name or an alias of the registry."""


class AbortRequest(Wire):
    """Which requests to end."""

    id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    all: bool = False


class DrainRequest(Wire):
    """Nothing to say; an object all the same, so that a form on somebody's page is no way to send it."""
