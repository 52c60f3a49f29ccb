"""What each tenant asks for and uses. Names come from the key file; at most `MAX_TENANTS` of them get their own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from serving.presentation.metrics import PREFIX, escape, head

MAX_TENANTS = 200
OTHERS = "_others"  # no tenant can be called that


class TenantMetrics:
    """Counts by tenant. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._tokens: Counter[str] = Counter()

    def answered(self, tenant: str, status: int) -> None:
        """A request has got its status."""
        with self._lock:
            self._requests[self._name(tenant), status] += 1

    def used(self, tenant: str, tokens: int) -> None:
        """A request has ended."""
        with self._lock:
            self._tokens[self._name(tenant)] += tokens

    def lines(self) -> Iterable[str]:
        """For Prometheus."""
        with self._lock:
            requests, tokens = sorted(self._requests.items()), sorted(self._tokens.items())
        yield from head(f"{PREFIX}tenant_requests_total", "counter", "Requests of a tenant, by HTTP status.")
        for (tenant, status), count in requests:
            yield f'{PREFIX}tenant_requests_total{{tenant="{escape(tenant)}",code="{status}"}} {count}'
        yield from head(f"{PREFIX}tenant_tokens_total", "counter", "Tokens of a tenant's prompts and answers.")
        for tenant, count in tokens:
            yield f'{PREFIX}tenant_tokens_total{{tenant="{escape(tenant)}"}} {count}'

    def _name(self, tenant: str) -> str:
        """The first ones keep their names, whoever comes later shares one."""
        if tenant not in self._known and len(self._known) >= MAX_TENANTS:
            return OTHERS
        self._known.add(tenant)
        return tenant
