"""The little of HTTP that a chat needs: which models there are, and an answer as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from lifecycle.errors import LifecycleError

TIMEOUT = 120.0  # seconds without a byte; a server that is busy sends comments in between


class Refused(Exception):
    """The server says no, or stopped in the middle; the message is for the person who chats."""


@dataclass(frozen=True, slots=True)
class ChatClient:
    """One server. `url` without a path, "http://127.0.0.1:8000"; with /v1 at its end it means the same."""

    url: str
    api_key: str | None = None

    def default_model(self) -> str:
        """The name of the model that answers when none is named. Raises LifecycleError when nobody is there."""
        try:
            return self._get("/v1/models")["data"][0]["id"]
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise LifecycleError(
                f"no server answers at {self.url} ({error}): start one with lifecycle serve, or leave --url out to chat without"
            ) from None
        except Refused as error:
            raise LifecycleError(f"{self.url} refuses: {error}") from None

    def models(self) -> list[str]:
        """Names of all that is served. Raises Refused."""
        return [model["id"] for model in self._ask("/v1/models")["data"]]

    def model(self, name: str) -> str:
        """What the model behind a name, version or alias is called. Raises Refused when there is none."""
        return self._ask(f"/v1/models/{quote(name)}")["id"]

    def stream(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Choices of the chunks of one answer. Leaving early hangs up, and the server stops. Raises Refused."""
        connection = self._connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}), self._headers())
            response = connection.getresponse()
            _check(response)
            while line := response.readline():
                if not line.startswith(b"data: "):
                    continue
                if line.strip() == b"data: [DONE]":
                    return
                chunk = json.loads(line[len(b"data: ") :])
                if "error" in chunk:
                    raise Refused(chunk["error"]["message"])
                yield from chunk["choices"]
            raise Refused("the server hung up in the middle of the answer")
        except (OSError, HTTPException, ValueError) as error:
            raise Refused(f"the connection to {self.url} broke: {error or type(error).__name__}") from None
        finally:
            connection.close()

    def _ask(self, path: str) -> dict[str, Any]:
        try:
            return self._get(path)
        except (OSError, HTTPException, ValueError) as error:
            raise Refused(f"the connection to {self.url} broke: {error or type(error).__name__}") from None

    def _get(self, path: str) -> dict[str, Any]:
        connection = self._connect()
        try:
            connection.request("GET", path, headers=self._headers())
            response = connection.getresponse()
            _check(response)
            return json.loads(response.read())
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.rstrip("/") not in ("", "/v1"):
            raise LifecycleError(f'"{self.url}" is no address of a server: write --url http://127.0.0.1:8000')
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname, parts.port, timeout=TIMEOUT)

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}


def _check(response: HTTPResponse) -> None:
    """Raises Refused with the server's own words for any status but 200."""
    if response.status == 200:
        return
    body = response.read()
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = f"status {response.status}"
    raise Refused(message)
