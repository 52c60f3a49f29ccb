"""Names of this machine, and what a browser says about the page that a request comes from."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*\\,;\"']+", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_this_machine(host_header: str) -> bool:
    """Whether a Host header is a loopback address or a name that can be nothing else, with or without a port."""
    try:
        host = urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return False
    return is_loopback(host) or host.endswith(".localhost")


def is_origin(value: str) -> bool:
    """Whether this can be sent as an Origin: scheme, host and perhaps a port, no path, no wildcard.

    Any scheme: programs that are a browser inside have their own, as in app://name.
    """
    try:
        parts = urlsplit(value)
        return bool(ORIGIN.fullmatch(value) and parts.hostname and (parts.port is None or parts.port >= 0))
    except ValueError:
        return False


def is_own_page(origin: str, host_header: str) -> bool:
    """Whether an Origin is the server that the request was sent to."""
    return origin.partition("://")[2].lower() == host_header.lower()
