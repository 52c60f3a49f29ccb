"""Which adapters an engine has been given, and which of its requests use them."""

from __future__ import annotations

from collections.abc import Iterable

from serving.domain.errors import ModelNotFound
from serving.domain.request import Request


class AdapterUse:
    """Knows when an adapter may go. Not locked: the engine does that."""

    def __init__(self) -> None:
        self._users: dict[str, set[str]] = {}  # ids of unfinished requests, by adapter
        self._leaving: set[str] = set()

    def add(self, adapter_id: str) -> None:
        """Requests may name it from now on."""
        self._users[adapter_id] = set()

    def __contains__(self, adapter_id: str) -> bool:
        return adapter_id in self._users

    def begin(self, request: Request) -> None:
        """Count a request in. Raises ModelNotFound when its adapter is not there, or takes no new ones."""
        if request.adapter is None:
            return
        if request.adapter not in self._users or request.adapter in self._leaving:
            raise ModelNotFound("this adapter is not loaded any more", param="model")
        self._users[request.adapter].add(request.id)

    def end(self, request: Request) -> None:
        """It has finished."""
        if request.adapter is not None:
            self._users[request.adapter].discard(request.id)

    def leave(self, adapter_id: str) -> Iterable[str]:
        """Take no new requests for it; those that still use it, as they become fewer."""
        self._leaving.add(adapter_id)
        return self._users[adapter_id]

    def forget(self, adapter_id: str) -> None:
        """Nobody uses it any more."""
        del self._users[adapter_id]
        self._leaving.discard(adapter_id)
