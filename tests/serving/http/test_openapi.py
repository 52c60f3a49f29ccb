"""The OpenAPI document tells the truth: it covers every route, and what it allows is never a server error.

`API_CASES=2000 pytest tests/serving/http/test_openapi.py -k schemathesis -s` is the long run.
"""

import json
import os
import re

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.presentation.app import create_app
from serving.presentation.openapi import OPERATIONS, document
from serving.presentation.state import HttpConfig

CASES = int(os.environ.get("API_CASES", "150"))
PAGES = ("/", "/static/")
ENDLESS = ("/engine/events", "/v1/realtime")
"""The second one is no answer at all but a conversation: tests/serving/live attacks it."""
FOR_GOOD = ("/admin/drain", "/registry/report", "/registry/promote")
"""After these the server, or the registry, is another one."""
TRUTH = [status_code_conformance, content_type_conformance, response_schema_conformance]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def app(registry, tmp_path_factory):
    """A real engine with so little memory that no answer is long."""
    from serving.composition import ServingConfig, build_catalog

    catalog = build_catalog(["tiny/1"], ServingConfig(dtype="float32", num_blocks=4, backend="packed"), registry)
    feedback = SqliteFeedback(tmp_path_factory.mktemp("feedback") / "feedback.sqlite")
    yield create_app(catalog, HttpConfig(tick_seconds=0.05, registry=registry.root), feedback=feedback)
    for model in catalog.all():
        model.engine.close()


def test_every_route_is_in_the_document_and_the_other_way_round(app):
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule != PAGES[0] and not rule.rule.startswith(PAGES[1])
    }
    assert routes == {(one.method, one.path) for one in OPERATIONS}


def test_the_document_is_sound(app):
    served = app.test_client().get("/openapi.json").json
    assert served == json.loads(json.dumps(document()))
    for name, schema in served["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert not {"ge", "le", "gt", "lt"} & set(re.findall(r'"(\w+)":', json.dumps(schema))), name
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(served)))
    assert named == set(served["components"]["schemas"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/v1/chat/completions", {"messages": HELLO, "max_tokens": 2, "logprobs": True, "metadata": {"a": "b"}}),
        ("post", "/v1/completions", {"prompt": [1, 2], "max_tokens": 2, "logprobs": 1, "echo": True}),
        ("post", "/v1/responses", {"input": "hello", "max_output_tokens": 2}),
        ("post", "/v1/embeddings", {"input": ["a", "b"]}),
        ("post", "/v1/chat/render", {"messages": HELLO}),
        ("post", "/tokenize", {"prompt": "hello", "return_token_strs": True}),
        ("post", "/detokenize", {"tokens": [1, 2]}),
        ("post", "/admin/policy", {"policy": "static"}),
        ("post", "/v1/completions", {"prompt": 1}),
        ("get", "/v1/models", None),
        ("get", "/health", None),
        ("get", "/stats", None),
        ("get", "/v1/models/{name}", None),
    ],
)
def test_requests_and_answers_are_those_of_the_document(app, method, path, body):
    written = document()
    operation = written["paths"][path][method]

    def check(value, content):
        schema = {**content["application/json"]["schema"], "components": written["components"]}
        jsonschema.validate(value, schema)

    answer = getattr(app.test_client(), method)(path.replace("{name}", "tiny"), json=body)
    check(answer.json, operation["responses"][str(answer.status_code)]["content"])
    if answer.status_code == 200 and body:
        check(body, operation["requestBody"]["content"])


ATTACKED = [one for one in OPERATIONS if one.path not in ("/openapi.json", *ENDLESS, *FOR_GOOD)]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2}),
        ("/v1/completions", {"prompt": "hello", "max_tokens": 2}),
        ("/v1/responses", {"input": "hello", "max_output_tokens": 2}),
    ],
)
def test_events_are_those_of_the_document(app, path, body):
    operation = schemathesis.openapi.from_wsgi("/openapi.json", app)[path]["POST"]
    case = operation.Case(body={**body, "stream": True}, media_type="application/json")
    answer = case.call()
    assert answer.status_code == 200 and "text/event-stream" in answer.headers["content-type"][0]
    case.validate_response(answer, checks=TRUTH)


def share(one) -> int:
    """Of `CASES`, which all routes together get at least: those without a body have next to nothing to vary."""
    return -(-CASES // sum(other.request is not None for other in ATTACKED)) if one.request else max(1, CASES // 100)


def modes(operation) -> list[GenerationMode]:
    """Requests that the document allows, and requests that it does not."""
    return list(GenerationMode) if operation.request else [GenerationMode.POSITIVE]


@pytest.mark.parametrize("one", ATTACKED, ids=lambda one: f"{one.method} {one.path}")
def test_schemathesis_finds_no_server_error(app, one):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    operation = schema[one.path][one.method.upper()]
    seen = []

    @settings(
        max_examples=share(one),
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes(one))))
    def attack(case):
        answer = case.call()
        seen.append(answer.status_code)
        assert answer.status_code < 500 or answer.status_code == 501, (case.body, answer.text)
        case.validate_response(answer, checks=TRUTH)
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    attack()
    assert seen
    print(f"{one.method} {one.path}: {len(seen)} cases, {sorted(set(seen))}")


def test_fuzz_what_no_schema_describes(server):
    """Bodies that are no requests at all, on every route that takes one."""
    posts = [one.path for one in OPERATIONS if one.request and not one.form]
    raw = {
        b"": 400,
        b"{": 400,
        b"\xff\xfe\xfd": 400,
        b'{"model": "\xff"}': 400,
        b"[" * 100_000: 400,
        b'{"model":' * 5000: 400,
        b'{"model": ' + b"9" * 100_000 + b"}": 400,
    }
    with httpx.Client(base_url=server.url, timeout=20) as http:
        for path in posts:
            for body, status in raw.items():
                answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
                assert answer.status_code == status and answer.json()["error"]["message"], (path, body[:20])
            assert http.post(path, content=b"{}", headers={"Content-Type": "text/xml"}).status_code == 415
            assert http.post(path, json={"x" * 100_000: 1}).status_code == 400
            assert len(http.post(path, json={"x" * 100_000: 1}).text) < 1000


def test_a_huge_body_is_refused_before_it_is_read(server):
    def pieces():
        for _ in range(100):
            yield b" " * 2**20

    for content, headers in ((pieces(), {"Content-Length": str(100 * 2**20)}), (pieces(), {})):
        try:
            answer = httpx.post(
                f"{server.url}/v1/chat/completions",
                content=content,
                headers={"Content-Type": "application/json", **headers},
                timeout=20,
            )
        except (httpx.WriteError, httpx.ReadError):
            continue  # hung up on in the middle of sending, which is a refusal too
        assert answer.status_code == 413
