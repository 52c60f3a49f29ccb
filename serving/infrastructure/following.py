"""Keeps a server at where an alias of the registry points: when it moves, the models are swapped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from serving.application.ports import ModelCatalog
from serving.domain.errors import ServingError
from serving.infrastructure.catalog import BUSY

log = logging.getLogger(__name__)


class Follower:
    """Looks at `alias` every `seconds` and lets the version that it points to answer in place of the one that goes by it.

    `version` is the served one that begins; it gets the alias, should that have moved while it was being loaded. What one of `others`,
    followed too, goes by as well stays for these. A version that cannot be served is logged once, and the old one stays until the alias moves again.
    """

    def __init__(
        self,
        catalog: ModelCatalog,
        registry: ModelRegistry,
        alias: str,
        version: str,
        seconds: float = 1.0,
        *,
        others: Iterable[str] = (),
    ) -> None:
        catalog.set_alias(alias, version)
        self._catalog, self._registry, self.alias, self._seconds = catalog, registry, alias, seconds
        self._others = frozenset(others) - {alias}
        self._refused: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {alias}", daemon=True)

    def start(self) -> Follower:
        """Call it after a fork, never before."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Look no more; a swap that has begun is finished."""
        self._stopped.set()
        self._thread.join()

    def reject(self, version: str) -> None:
        """Do not serve this version again until the alias has been elsewhere."""
        self._refused = version

    def look(self) -> None:
        """Swap if the alias has moved."""
        target = None
        try:
            target = self._registry.aliases().get(self.alias)
            if target in (None, self._refused):
                return
            self._refused = None
            if target == self._catalog.get(self.alias).version:
                return
            self.move(target)
            log.info("%s moved: %s answers now", self.alias, target)
        except (LifecycleError, ServingError) as error:
            if getattr(error, "code", None) == BUSY:
                return  # the next look will do
            self._refused = target
            log.warning("%s moved, and the old version goes on answering: %s", self.alias, error)

    def move(self, target: str) -> None:
        """Let this version answer for the alias. Raises what the catalog raises."""
        answering = self._catalog.get(self.alias)
        needed = not self._others.isdisjoint(answering.aliases)
        served = any(model.version == target for model in self._catalog.engines())
        if served and not needed:
            self._catalog.take_over(target, self.alias)
        elif needed:
            self._catalog.set_alias(self.alias, target if served else self._catalog.load(target).name)
        else:
            self._catalog.swap(target, self.alias)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.look()
            except Exception:
                log.exception("following %s failed", self.alias)
