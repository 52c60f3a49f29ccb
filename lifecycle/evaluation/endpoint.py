"""Log-likelihoods from a server: the endpoint that lm-eval's `local-completions` asks, and nothing else."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle.errors import LifecycleError

AT_ONCE = 8
"""Continuations in one request."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model of a server with POST /tokenize and /v1/completions (ours, vLLM)."""

    url: str
    """Of the server, with or without the "/v1" behind it."""
    model: str
    api_key: str | None = None
    timeout: float = 120.0
    """Seconds for one request."""

    def tokenize(self, context: str | Sequence[dict[str, Any]]) -> list[int]:
        """Token ids of a text, or of messages through the chat template up to where the answer begins."""
        asked = {"prompt": context} if isinstance(context, str) else {"messages": list(context)}
        return self._post("/tokenize", {"model": self.model, **asked})["tokens"]

    def log_likelihoods(self, context: str | Sequence[dict[str, Any]], continuations: Sequence[str]) -> list[float]:
        """ln P(continuation | context) of each, in nats: the sum over its tokens, none of which crosses into the context.

        The server echoes context and continuation with a log-probability for each token. Raises LifecycleError when there
        is no server, when it refuses, and when it does not score prompts.
        """
        prefix = self.tokenize(context)
        ends = [self.tokenize(continuation) for continuation in continuations]
        if not prefix or not all(ends):
            raise LifecycleError("context and continuations must not be empty: the first token of all has no log-probability")
        found: list[float] = []
        for start in range(0, len(ends), AT_ONCE):
            found += self._scored(prefix, ends[start : start + AT_ONCE])
        return found

    def _scored(self, prefix: list[int], ends: list[list[int]]) -> list[float]:
        body = {"model": self.model, "prompt": [prefix + end for end in ends], "echo": True, "logprobs": 0}
        choices = self._post("/v1/completions", {**body, "max_tokens": 1, "temperature": 0})["choices"]
        sums = []
        for choice, end in zip(sorted(choices, key=lambda choice: choice["index"]), ends, strict=True):
            scores = (choice.get("logprobs") or {}).get("token_logprobs") or []
            wanted = scores[len(prefix) : len(prefix) + len(end)]
            if len(wanted) < len(end) or None in wanted:
                raise LifecycleError(f"{self.url} does not score prompts: it needs echo together with logprobs in /v1/completions")
            sums.append(sum(wanted))
        return sums

    def _post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        address = self.url.rstrip("/").removesuffix("/v1") + route
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        try:
            request = urllib.request.Request(address, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise LifecycleError(f"{address} answered {error.code}: {_reason(error)}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise LifecycleError(f"no answer from {address}: {error}. Is it running? Start one with: lifecycle serve") from None


def from_environment(url: str, model: str) -> Endpoint:
    """With the key in $OPENAI_API_KEY, where there is one."""
    return Endpoint(url, model, os.environ.get("OPENAI_API_KEY") or None)


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return text[:200] or error.reason
