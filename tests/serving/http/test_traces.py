"""Where a request's time went, as spans: from the real engine, through OpenTelemetry's own exporter for tests."""

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lifecycle.errors import LifecycleError
from serving.application.timing import EngineTiming, TimingObserver
from serving.composition import ServingConfig, build_catalog
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.tracing import Tracer, otlp_tracer
from serving.presentation.app import create_app

HELLO = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 6, "min_tokens": 6, "temperature": 0}
PARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.fixture(scope="module")
def traced(registry):
    """A client of an app that traces, and what it exported."""
    exporter = InMemorySpanExporter()
    tracer = Tracer(lambda: exporter)
    config = ServingConfig(dtype="float32", kv_memory_mb=4)
    catalog = build_catalog(["tiny/1"], config, registry, observe=lambda: TimingObserver(tracer.engine))

    def spans():
        for model in catalog.engines():
            model.engine.call(lambda: None)  # the report of the last step has been told
        tracer.flush()
        found = exporter.get_finished_spans()
        exporter.clear()
        return found

    yield create_app(catalog, trace=tracer.http).test_client(), spans
    catalog.all()[0].engine.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_tree_of_its_parts_in_order(traced, stream):
    client, spans = traced
    answer = client.post("/v1/chat/completions", json={**HELLO, "stream": stream}, headers={"traceparent": PARENT, "X-Request-Id": "mine"})
    assert answer.status_code == 200 and answer.data
    answer.close()
    named = {span.name: span for span in spans()}
    assert set(named) == {"POST /v1/chat/completions", "queue", "prefill", "decode"} | ({"stream"} if stream else set())
    root = named.pop("POST /v1/chat/completions")
    assert root.context.trace_id == int(PARENT.split("-")[1], 16) and root.parent.span_id == int(PARENT.split("-")[2], 16)
    assert (root.attributes["request.id"], root.attributes["model.version"]) == ("mine", "tiny/1")
    assert all(span.parent.span_id == root.context.span_id for span in named.values())
    queue, prefill, decode = (named[name] for name in ("queue", "prefill", "decode"))
    assert root.start_time <= queue.start_time <= queue.end_time == prefill.start_time <= prefill.end_time == decode.start_time
    assert decode.start_time <= decode.end_time <= root.end_time
    assert decode.attributes["completion_tokens"] == 6 and decode.attributes["finish_reason"] == "length"


def test_every_choice_has_its_parts_and_a_grammar_its_masks(traced):
    client, spans = traced
    asked = {**HELLO, "n": 2, "min_tokens": 0, "max_tokens": 40, "response_format": {"type": "json_object"}}
    assert client.post("/v1/chat/completions", json=asked).status_code == 200
    found = spans()
    names = [span.name for span in found]
    assert sorted(names) == sorted(["POST /v1/chat/completions", *2 * ["queue", "prefill", "decode", "mask"]])
    inside = {span.context.span_id: span for span in found if span.name == "decode"}
    for mask in (span for span in found if span.name == "mask"):
        assert mask.end_time > mask.start_time and inside[mask.parent.span_id].attributes["answer.id"] == mask.attributes["answer.id"]


def test_whichever_half_comes_first_the_spans_are_written_once():
    exporter = InMemorySpanExporter()
    tracer = Tracer(lambda: exporter)
    told: list[EngineTiming] = []
    clock = iter((5.0, 6.0))
    observer = TimingObserver(told.append, clock=lambda: next(clock))
    observer(Request("a-0", (1, 2), SamplingParams(), arrival=1.0))
    observer(Finished("a-0", "cancelled", 2, 0))
    assert told == [EngineTiming("a-0", 1.0, None, None, 5.0, 0.0, "cancelled", 2, 0, 0)]
    observer(Finished("nobody", "cancelled", 0, 0))
    assert len(told) == 1
    tracer.engine(told[0])
    tracer.flush()
    assert exporter.get_finished_spans() == ()


def test_bad_addresses_are_one_line():
    with pytest.raises(LifecycleError, match="--traces http://127.0.0.1:4318"):
        otlp_tracer("127.0.0.1:4318")
