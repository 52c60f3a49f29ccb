"""`lifecycle top`: asks a server every few seconds and draws what it says."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import click

from lifecycle.errors import LifecycleError
from serving.top.scrape import Interval, Reading
from serving.top.view import render

CLEAR = "\x1b[H\x1b[J"
PATIENCE = 5.0  # seconds


@click.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@click.option("--api-key", envvar="LIFECYCLE_API_KEY", help="An admin's key shows the requests too. Also LIFECYCLE_API_KEY.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Two looks, one picture, then leave: for pipes and scripts.")
def top(url: str, api_key: str | None, interval: float, once: bool) -> None:
    """Watch a running server: what runs and waits, memory, tokens per second, latencies, trials. Ctrl-C leaves."""
    server = Server(url.rstrip("/"), api_key)
    before = server.reading()
    if not once and sys.stdout.isatty():
        click.echo(CLEAR + "\n".join(server.picture(Interval(before))))
    try:
        while True:
            time.sleep(interval)
            after = server.reading()
            click.echo((CLEAR if sys.stdout.isatty() and not once else "") + "\n".join(server.picture(Interval(after, before))))
            if once:
                return
            before = after
    except KeyboardInterrupt:
        return


class Server:
    """Asked over HTTP. Raises LifecycleError when it does not answer."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url, self.key = url, key

    def reading(self) -> Reading:
        page = self._get("/metrics")
        return Reading.of(page, time.monotonic())

    def picture(self, interval: Interval) -> list[str]:
        versions = {one["model"]: one["version"] for one in json.loads(self._get("/stats"))["models"]}
        width = shutil.get_terminal_size((200, 24)).columns if sys.stdout.isatty() else 10_000
        return [self.url, *render(interval, versions, self._ready(), self._requests(), width)]

    def _ready(self) -> str:
        try:
            return json.loads(self._get("/readyz"))["status"]
        except Refused as refused:
            return json.loads(refused.body).get("status", "unhealthy")

    def _requests(self) -> list[dict[str, Any]]:
        if self.key is None:
            return []
        try:
            return json.loads(self._get("/admin/requests"))["data"]
        except Refused as refused:
            raise LifecycleError(f"{self.url} refuses the key for /admin/requests ({refused.status}): it has to be an admin's") from None

    def _get(self, path: str) -> str:
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=PATIENCE) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode()) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            raise LifecycleError(f"no server answers at {self.url} ({why}): start one with lifecycle serve, or name it with --url") from None


class Refused(Exception):
    """Another status than 200."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status)
        self.status, self.body = status, body
