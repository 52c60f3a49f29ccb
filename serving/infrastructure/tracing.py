"""Requests as OpenTelemetry spans, sent to a collector as OTLP over HTTP.

    POST /v1/chat/completions          from the first byte of the request to the last one of the answer
      queue                            until the first step that had work of it
      prefill                          until its first token
      decode                           until its last one
        mask                           what its grammar took of that, all steps together, drawn at the beginning
      stream                           from its first token until the client has the last byte

An answer with several choices has these children once for each. The engine's thread and the HTTP thread each tell what
they saw; whoever is later writes the spans.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from lifecycle.errors import LifecycleError
from serving.application.timing import EngineTiming, HttpTiming

MOST = 10_000  # timings that wait for the other half
SERVICE = "llm-lifecycle"


class Tracer:
    """Safe from any thread. `make_exporter` is called with the first request: after any fork."""

    def __init__(self, make_exporter: Callable[[], Any]) -> None:
        self._make = make_exporter
        self._lock = threading.Lock()
        self._provider: Any = None
        self._engine: OrderedDict[str, EngineTiming] = OrderedDict()
        self._http: OrderedDict[str, tuple[HttpTiming, Any]] = OrderedDict()
        self._epoch = time.time() - time.monotonic()

    def engine(self, timing: EngineTiming) -> None:
        """The engine has ended a request."""
        with self._lock:
            waiting = self._http.pop(timing.id, None)
            if waiting is None:
                _put(self._engine, timing.id, timing)
        if waiting is not None:
            self._children(timing, *waiting)

    def http(self, timing: HttpTiming) -> None:
        """The last byte of an answer has been written."""
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": timing.traceparent}) if timing.traceparent else None
        told = {"http.response.status_code": timing.status, "request.id": timing.request_id, "model.version": timing.version}
        root = self._span(timing.name, timing.began, timing.ended, parent, told)
        if timing.status >= 500:
            root.set_status(trace.Status(trace.StatusCode.ERROR))
        root.end(self._nanoseconds(timing.ended))
        context = trace.set_span_in_context(root)
        for name in timing.answers:
            with self._lock:
                seen = self._engine.pop(name, None)
                if seen is None:
                    _put(self._http, name, (timing, context))
            if seen is not None:
                self._children(seen, timing, context)

    def flush(self) -> None:
        """Send what there is."""
        if self._provider is not None:
            self._provider.force_flush()

    def _children(self, seen: EngineTiming, http: HttpTiming, context: Any) -> None:
        from opentelemetry import trace

        answer = {"answer.id": seen.id}
        self._close("queue", seen.arrival, seen.started or seen.ended, context, answer)
        if seen.started is None:
            return
        tokens = {"prompt_tokens": seen.prompt_tokens, "cached_tokens": seen.cached_tokens}
        self._close("prefill", seen.started, seen.first_token or seen.ended, context, {**answer, **tokens})
        if seen.first_token is None:
            return
        told = {**answer, "completion_tokens": seen.completion_tokens, "finish_reason": seen.reason}
        decode = self._span("decode", seen.first_token, seen.ended, context, told)
        if seen.mask_seconds:
            inside = trace.set_span_in_context(decode)
            self._close("mask", seen.first_token, seen.first_token + seen.mask_seconds, inside, {**answer, "accumulated": True})
        decode.end(self._nanoseconds(seen.ended))
        if http.streamed:
            self._close("stream", seen.first_token, http.ended, context, answer)

    def _close(self, name: str, began: float, ended: float, context: Any, told: dict[str, Any]) -> None:
        self._span(name, began, ended, context, told).end(self._nanoseconds(max(began, ended)))

    def _span(self, name: str, began: float, ended: float, context: Any, told: dict[str, Any]) -> Any:
        attributes = {key: value for key, value in told.items() if value is not None}
        return self._tracer().start_span(name, context, attributes=attributes, start_time=self._nanoseconds(began))

    def _tracer(self) -> Any:
        with self._lock:
            if self._provider is None:
                from opentelemetry.sdk.resources import Resource
                from opentelemetry.sdk.trace import TracerProvider
                from opentelemetry.sdk.trace.export import BatchSpanProcessor

                self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
                self._provider.add_span_processor(BatchSpanProcessor(self._make()))
            return self._provider.get_tracer(SERVICE)

    def _nanoseconds(self, moment: float) -> int:
        """Wall-clock time of a monotonic moment."""
        return int((self._epoch + moment) * 1e9)


def otlp_tracer(url: str) -> Tracer:
    """Spans go to `url`/v1/traces. Raises LifecycleError without OpenTelemetry, and for what is no address."""
    if not url.startswith(("http://", "https://")):
        raise LifecycleError(f'"{url}" is no address of a collector: write --traces http://127.0.0.1:4318')
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise LifecycleError(f"--traces needs OpenTelemetry: pip install -e '.[otel]' ({error})") from None
    return Tracer(lambda: OTLPSpanExporter(endpoint=url.rstrip("/") + "/v1/traces"))


def _put(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    while len(kept) > MOST:
        kept.popitem(last=False)
