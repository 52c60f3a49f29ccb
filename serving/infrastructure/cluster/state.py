"""What the gateway knows: its replicas, and the requests on their way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serving.application.mailbox import Mailbox
from serving.application.ports import EngineStats
from serving.domain.request import Request


@dataclass(slots=True, eq=False)
class Replica:
    """One actor as the gateway knows it. `pid` is 0 until it serves."""

    number: int
    place: int
    actor: Any
    pid: int = 0
    leaving: bool = False
    stats: EngineStats | None = None
    healthy: bool = True
    heard: float = 0.0
    flights: dict[str, Flight] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        return bool(self.pid) and not self.leaving


@dataclass(slots=True, eq=False)
class Flight:
    """One request on its way. `placing`: the thread that brings it to a replica sees to it when that one is lost."""

    request: Request
    mailbox: Mailbox
    prefix: list[bytes]
    replica: Replica | None = None
    placing: bool = True
    begun: bool = False
    generated: int = 0
    cancelled: str | None = None
    over: bool = False
