"""Fetching: only what was allowed, wherever names and redirects try to lead, and never for long."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.application.media import MediaSource
from serving.domain.errors import InvalidRequest, MediaTooLarge
from serving.infrastructure.media import fetch as fetching
from serving.infrastructure.media.fetch import fetch, is_public
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader

from .files import STILLS, source

PICTURE = STILLS["PNG"]()
MOST = 10_000


class Site:
    """A real server on this machine; `pages` maps a path to what answers there."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, str]] = []
        self.agents: set[str | None] = set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers["Host"]))
                site.agents.add(self.headers["User-Agent"])
                site.pages[self.path](self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def limits(self, *hosts: str, **more) -> MediaLimits:
        return MediaLimits(media_hosts=",".join((self.host, *hosts)), **more)


def content(data: bytes, length: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(to: str, status: int = 302) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.pages["/a.png"] = content(PICTURE)
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def names(monkeypatch) -> dict[str, list[str]]:
    """A name service of a test's own: name to addresses."""
    known: dict[str, list[str]] = {}
    figures = socket.getaddrinfo

    def resolve(host, port, *rest, **more):
        if host[0].isdigit():
            return figures(host, port, *rest, **more)
        if host not in known:
            raise socket.gaierror("unknown")
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in known[host]]

    monkeypatch.setattr(fetching.socket, "getaddrinfo", resolve)
    return known


def test_the_same_bytes_have_the_same_digest_however_they_came(site):
    read = MediaReader(site.limits())
    (fetched,) = read([MediaSource("image", f"{site.url}/a.png", "x")])
    (sent,) = read([source("image", PICTURE)])
    assert fetched.digest == sent.digest and (fetched.frames[0] == sent.frames[0]).all()
    assert site.agents == {"llm-lifecycle"}


@pytest.mark.parametrize("status", fetching.REDIRECTS)
def test_a_redirect_is_followed_where_it_may_lead(site, status):
    site.pages["/old"] = redirect("/a.png", status)
    assert fetch(f"{site.url}/old", MOST, site.limits()) == PICTURE


def test_redirects_end(site):
    site.pages["/round"] = redirect("/round")
    with pytest.raises(InvalidRequest, match="more than 3 times"):
        fetch(f"{site.url}/round", MOST, site.limits())
    assert len(site.asked) == 4


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("http://127.0.0.1:1/x", "none of the hosts"),
        ("http://169.254.169.254/latest/meta-data", "none of the hosts"),
        ("http://[::1]/", "none of the hosts"),
        ("http://elsewhere.example/", "none of the hosts"),
        ("http://inside.example/", "private network"),
        ("file:///etc/passwd", "only http: and https:"),
        ("ftp://public.example/x", "only http: and https:"),
        ("http://a b/", "no http"),
        ("http://[x", "no http"),
    ],
)
def test_a_redirect_is_checked_like_an_address(site, names, to, words):
    names["inside.example"] = ["10.1.2.3"]
    site.pages["/old"] = redirect(to)
    with pytest.raises(InvalidRequest, match=words):
        fetch(f"{site.url}/old", MOST, site.limits("inside.example", "public.example"))
    assert len(site.asked) == 1


def test_without_hosts_nothing_is_fetched(site):
    with pytest.raises(InvalidRequest, match="media_hosts=HOST"):
        fetch(f"{site.url}/a.png", MOST, MediaLimits())
    assert not site.asked


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["192.168.1.1"],
        ["172.16.0.1"],
        ["100.64.0.1"],
        ["169.254.169.254"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["::1"],
        ["fe80::1%eth0"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["93.184.216.34", "127.0.0.1"],
    ],
)
def test_a_name_never_leads_into_a_private_network(site, names, addresses):
    names["pictures.example"] = addresses
    with pytest.raises(InvalidRequest, match="private network"):
        fetch("http://pictures.example/a.png", MOST, site.limits("*.example"))
    assert not site.asked


def test_addresses_of_the_internet_are_public():
    for address in ("93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"):
        assert is_public(address), address


def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(site, names, monkeypatch):
    """A name service that changes its mind after the check (DNS rebinding) changes nothing."""
    names["pictures.example"] = ["93.184.216.34"]
    reached = []

    def connect(address, timeout):
        reached.append(address)
        names["pictures.example"] = ["127.0.0.1"]
        return direct((site.host.split(":")[0], site.server.server_port))

    def direct(address):
        sock = socket.socket()
        sock.connect(address)
        return sock

    monkeypatch.setattr(fetching.socket, "create_connection", connect)
    assert fetch("http://pictures.example/a.png", MOST, MediaLimits(media_hosts="pictures.example")) == PICTURE
    assert reached == [("93.184.216.34", 80)]
    assert site.asked == [("/a.png", "pictures.example")]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://other.example/", "none of the hosts"),
        ("http://pictures.example:8080/", "none of the hosts"),
        ("http://pictures.example.evil.org/", "none of the hosts"),
        ("http://me:secret@pictures.example/", "name or password"),
        ("http://pictures.example\\@evil.org/", "none of the hosts|no http|name or password"),
        ("http://pictures.example/a b", "no http"),
        ("http://pictures.example/\r\nX: y", "no http"),
        ("http://bücher.example/", "no http"),
        ("http://2130706433/", "none of the hosts"),
        ("http://0x7f.1/", "none of the hosts"),
        ("http://pictures.example:99999/", "no http"),
        ("http:///a.png", "no http"),
        ("http://pictures.example/", "has no address"),
    ],
)
def test_what_was_not_allowed_is_not_asked(names, url, words):
    with pytest.raises(InvalidRequest, match=words):
        fetch(url, MOST, MediaLimits(media_hosts="pictures.example"))


def test_an_address_in_figures_is_allowed_with_its_port_only(site):
    for hosts in ("127.0.0.1", "127.0.0.1:1", "*", "169.254.169.254:80"):
        for url in (site.url, "http://169.254.169.254"):
            with pytest.raises(InvalidRequest, match="none of the hosts"):
                fetch(f"{url}/a.png", MOST, MediaLimits(media_hosts=hosts))
    assert not site.asked


@pytest.mark.parametrize("length", [None, MOST + 1, 1 << 60])
def test_no_more_bytes_are_read_than_may_be(site, length):
    site.pages["/large"] = content(bytes(MOST + 1), length)
    with pytest.raises(MediaTooLarge, match=f"more than {MOST} bytes"):
        fetch(f"{site.url}/large", MOST, site.limits())


def test_what_breaks_off_is_refused(site):
    site.pages["/half"] = content(PICTURE[:50], len(PICTURE))
    with pytest.raises(InvalidRequest, match="breaks off"):
        fetch(f"{site.url}/half", MOST, site.limits())


def test_what_is_not_there_is_refused(site):
    site.pages["/none"] = lambda handler: handler.send_error(404)
    with pytest.raises(InvalidRequest, match="the answer there is 404"):
        fetch(f"{site.url}/none", MOST, site.limits())
    site.pages["/junk"] = lambda handler: handler.wfile.write(b"\0" * 100)
    with pytest.raises(InvalidRequest, match="cannot be fetched"):
        fetch(f"{site.url}/junk", MOST, site.limits())
    with pytest.raises(InvalidRequest, match="nobody answers"):
        fetch("http://127.0.0.1:1/", MOST, MediaLimits(media_hosts="127.0.0.1:1"))


def drip(handler: BaseHTTPRequestHandler, opening: bytes) -> None:
    """Bytes so slowly that no single read ever times out."""
    with contextlib.suppress(OSError):  # whoever asked has left
        handler.wfile.write(opening)
        for _ in range(200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.02)


@pytest.mark.parametrize("opening", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_nobody_is_waited_for_beyond_the_limit(site, opening):
    site.pages["/slow"] = lambda handler: drip(handler, opening)
    with pytest.raises(InvalidRequest, match="takes too long"):
        fetch(f"{site.url}/slow", MOST, site.limits(media_fetch_seconds=0.2))


def test_nobody_is_waited_for_who_never_ends_to_agree_on_a_key():
    stop = threading.Event()

    def agree_for_ever(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB
            while not stop.wait(0.02):
                connection.sendall(b"\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=agree_for_ever, args=(listener,))
        thread.start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        giving_up = threading.Timer(5, stop.set)
        giving_up.start()
        try:
            with pytest.raises(InvalidRequest, match="takes too long"):
                fetch(f"https://{host}/slow", MOST, MediaLimits(media_hosts=host, media_fetch_seconds=0.2))
            assert not stop.is_set()
        finally:
            stop.set()
            giving_up.cancel()
            thread.join()
