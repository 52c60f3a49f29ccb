"""Bodies for whoever runs the server."""

from __future__ import annotations

from serving.presentation.schemas.base import Name, Wire, whole


class PolicyRequest(Wire):
    """Which batching policy to use from the next step on."""

    policy: str
    model: str | None = None
    """By default every model."""


class VersionRequest(Wire):
    """POST /registry/report and /registry/promote."""

    ref: Name
    """A version, a name or an alias of the registry."""


class AbortRequest(Wire):
    """Which requests to end."""

    id: Name | None = None
    all: bool = False


class DrainRequest(Wire):
    """Nothing to say; an object all the same, so that a form on somebody's page is no way to send it."""


class LoadRequest(Wire):
    """POST /admin/models."""

    ref: Name
    """A registry version, name or alias."""
    adapters: bool = False
    """LoRA adapters may be added to it; native kernels apply none and are left out then."""
    kv_memory_mb: whole(1, 2**24) | None = None
    """Memory for its keys and values; by default what the other models leave."""


class SwapRequest(Wire):
    """POST /admin/swap."""

    ref: Name
    """A registry version, name or alias."""
    model: Name | None = None
    """The served model that it replaces: a name, version or alias; by default the first one."""
    kv_memory_mb: whole(1, 2**24) | None = None
    """Memory for its keys and values; by default what it would get if it were loaded in place of the old one."""


class AliasRequest(Wire):
    """POST /admin/aliases."""

    alias: Name
    model: Name


class AdapterRequest(Wire):
    """POST /admin/adapters."""

    name: Name
    ref: Name
    """A registry version that holds an adapter."""
    base: Name | None = None
    """The served model that it belongs to; by default the one that it was trained on."""
