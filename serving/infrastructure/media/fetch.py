"""Pictures that are elsewhere: from named hosts only, never from a private address, never for long.

A name is resolved once, what it resolves to is checked, and exactly that address is connected to: a name that means
something else a moment later leads nowhere. Every redirect begins anew.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import SplitResult, urljoin, urlsplit

from serving.domain.errors import InvalidRequest, MediaTooLarge
from serving.infrastructure.media.limits import MediaLimits

MOST_HOPS = 3
"""Redirects."""
PIECE = 2**16
HEADERS = {"Accept": "image/*, video/*", "Accept-Encoding": "identity", "User-Agent": "llm-lifecycle"}
"""Many a server refuses whoever does not say what it is."""
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}


def fetch(url: str, most: int, limits: MediaLimits) -> bytes:
    """What is at an http(s) address. Raises `MediaTooLarge` beyond `most` bytes, else `InvalidRequest` with the reason."""
    if not limits.hosts:
        raise InvalidRequest("is an address, and this server fetches nothing: send a data: address, or start it with "
                             "--set media_hosts=HOST,...")  # fmt: skip
    end = time.monotonic() + limits.media_fetch_seconds
    for _ in range(1 + MOST_HOPS):
        place = _split(url)
        address = _address(place, limits.hosts)
        found = _get(place, address, most, end)
        if isinstance(found, bytes):
            return found
        try:
            url = urljoin(url, found)
        except ValueError:
            raise InvalidRequest("leads to what is no http(s) address") from None
    raise InvalidRequest(f"leads from one address to another more than {MOST_HOPS} times")


def _split(url: str) -> SplitResult:
    try:
        place = urlsplit(url)
        host, _ = place.hostname, place.port
    except ValueError:
        host = None
    if url.partition(":")[0].lower() not in PORTS:
        raise InvalidRequest(f'leads to a "{url.partition(":")[0][:20]}:" address: only http: and https: are fetched')
    if host is None or not url.isascii() or any(letter <= " " for letter in url):
        raise InvalidRequest("is no http(s) address")
    if place.username is not None or place.password is not None:
        raise InvalidRequest("has a name or password in it, which are never sent")
    return place


def _port(place: SplitResult) -> int:
    return PORTS[place.scheme] if place.port is None else place.port


def _address(place: SplitResult, hosts: Sequence[str]) -> str:
    """The address to connect to, in figures. Raises `InvalidRequest` unless the host is named and its address public."""
    host, port = place.hostname.rstrip("."), _port(place)
    try:
        figures = ipaddress.ip_address(host)
    except ValueError:
        figures = None
    if figures is not None:
        named = f"[{figures}]:{port}" if figures.version == 6 else f"{figures}:{port}"
        if named not in hosts or figures.is_link_local or figures.is_multicast:
            raise _stranger(host)
        return str(figures)
    if port != PORTS[place.scheme] or not any(fnmatchcase(host, pattern) for pattern in hosts):
        raise _stranger(host)
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise InvalidRequest(f'is at "{host[:100]}", which has no address') from None
    if not all(is_public(one) for one in found):
        raise InvalidRequest(f'is at "{host[:100]}", which leads into a private network')
    return min(found, key=lambda one: ":" in one)  # IPv4 where there is one


def _stranger(host: str) -> InvalidRequest:
    return InvalidRequest(f'is at "{host[:100]}", which is none of the hosts that this server fetches from (media_hosts)')


def is_public(address: str) -> bool:
    """Whether an address in figures is anybody's on the internet, also where IPv6 wraps one of IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
    return found.is_global and not found.is_multicast


class _Pinned(http.client.HTTPConnection):
    """Connects to an address that was checked; the name goes into the Host header and the certificate's check."""

    def __init__(self, place: SplitResult, address: str, seconds: float) -> None:
        super().__init__(place.hostname, _port(place), timeout=seconds)
        self._pinned = address
        self.wire: socket.socket | None = None  # `sock` is gone as soon as an answer has begun that ends with it
        self._tls = ssl.create_default_context() if place.scheme == "https" else None

    def connect(self) -> None:
        self.sock = self.wire = socket.create_connection((self._pinned, self.port), self.timeout)
        if self._tls is not None:  # wrapping takes the descriptor along, so that only what wraps can be cut while keys are agreed on
            self.sock = self.wire = self._tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()


def _get(place: SplitResult, address: str, most: int, end: float) -> bytes | str:
    """The content, or where a redirect leads."""
    left = end - time.monotonic()
    if left <= 0:
        raise _late()
    connection = _Pinned(place, address, left)
    cut = threading.Timer(left, _cut, (connection,))  # a server that drips bytes resets every other clock
    cut.daemon = True
    cut.start()
    try:
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        connection.request("GET", target, headers=HEADERS)
        answer = connection.getresponse()
        if answer.status in REDIRECTS and (onward := answer.getheader("Location")):
            return onward
        if answer.status != 200:
            raise InvalidRequest(f"cannot be fetched: the answer there is {answer.status}")
        if (answer.length or 0) > most:
            raise MediaTooLarge(f"has more than {most} bytes")
        content = _read(answer, most)
        if time.monotonic() >= end:  # it may have been cut off
            raise _late()
        return content
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= end:
            raise _late() from None
        reason = "its certificate is not valid" if isinstance(error, ssl.SSLError) else "nobody answers there"
        raise InvalidRequest(f"cannot be fetched: {reason}") from None
    finally:
        cut.cancel()
        connection.close()


def _read(answer: http.client.HTTPResponse, most: int) -> bytes:
    pieces, size = [], 0
    while piece := answer.read(PIECE):
        size += len(piece)
        if size > most:
            raise MediaTooLarge(f"has more than {most} bytes")
        pieces.append(piece)
    if answer.length:
        raise InvalidRequest("cannot be fetched: the answer there breaks off")
    return b"".join(pieces)


def _late() -> InvalidRequest:
    return InvalidRequest("cannot be fetched: it takes too long")


def _cut(connection: _Pinned) -> None:
    if (wire := connection.wire) is not None:
        with contextlib.suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)
