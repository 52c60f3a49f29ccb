"""Whoever runs the server sees what runs and ends it, on a real engine; tenants stay apart."""

import json
import threading

import pytest
from test_limits import Tenants

from serving.composition import ServingConfig, build_catalog
from serving.domain.quota import Limits
from serving.presentation.admin import is_part
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

PROMPT = "the quick brown fox jumps over the lazy dog. " * 12
LONG = {"prompt": "the quick fox", "max_tokens": 12_000, "min_tokens": 12_000}
BOSS = {"Authorization": "Bearer boss"}


def bearer(tenant):
    return {"Authorization": f"Bearer {tenant}"}


@pytest.fixture
def app(catalog):
    keys = [Tenants(acme=Limits(concurrent=3), other=Limits())]
    return create_app(catalog, HttpConfig(api_key="boss", tick_seconds=0.05), keys=keys)


@pytest.fixture
def boss(app):
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = "Bearer boss"
    return client


def start(app, tenant, **changes):
    """A stream whose first chunk has arrived, so that the engine has it."""
    body = {**LONG, "stream": True, **changes}
    response = app.test_client().post("/v1/completions", json=body, headers=bearer(tenant))
    assert response.status_code == 200, response.json
    pieces = iter(response.response)
    first = next(piece for piece in pieces if piece.startswith(b"data:"))
    return response, pieces, json.loads(first.split(b"\n")[0][6:])["id"]


def test_what_runs_is_listed_with_its_tenant_and_gone_afterwards(app, boss):
    response, pieces, name = start(app, "acme", n=2, priority=3)
    try:
        listed = boss.get("/admin/requests").json["data"]
        assert [(one["id"], one["tenant"], one["model"]) for one in listed] == [
            (f"{name}-0", "acme", "tiny"),
            (f"{name}-1", "acme", "tiny"),
        ]
        for one in listed:
            assert one["state"] in ("waiting", "running") and one["age"] >= 0
            assert (one["max_tokens"], one["priority"]) == (12_000, 3)
            assert one["prompt_tokens"] > 0 and 0 <= one["generated_tokens"] < 12_000
    finally:
        response.close()
    drained(app)
    assert boss.get("/admin/requests").json["data"] == []


def drained(app):
    for model in app.extensions["serving"].catalog.all():
        model.engine.call(lambda: None)


def test_an_aborted_stream_ends_with_a_reason_and_its_place_is_free(app, boss):
    limiter = app.extensions["serving"].limiter
    response, pieces, name = start(app, "acme", n=2)
    other, _, _ = start(app, "other")
    assert limiter.running("acme") == 1
    answer = boss.post("/admin/abort", json={"id": name})
    assert answer.json == {"aborted": [f"{name}-0", f"{name}-1"]}
    *_, last = [piece for piece in pieces if b"error" in piece]
    error = json.loads(last.split(b"data: ")[1])["error"]
    assert (error["type"], error["code"]) == ("request_aborted", "aborted")
    assert last.endswith(b"data: [DONE]\n\n")
    response.close()
    assert limiter.running("acme") == 0
    left = boss.get("/admin/requests").json["data"]
    assert [one["tenant"] for one in left] == ["other"], "nobody else's request ended"
    other.close()
    drained(app)


def test_one_choice_or_everything_can_be_ended(app, boss):
    response, pieces, name = start(app, "acme", n=2)
    assert boss.post("/admin/abort", json={"id": f"{name}-1"}).json == {"aborted": [f"{name}-1"]}
    response.close()
    statuses = []
    whole = threading.Thread(
        target=lambda: statuses.append(app.test_client().post("/v1/completions", json=LONG, headers=bearer("acme")))
    )
    whole.start()
    while not boss.get("/admin/requests").json["data"]:
        drained(app)
    while whole.is_alive():
        boss.post("/admin/abort", json={"all": True})
        whole.join(0.05)
    (answer,) = statuses
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "aborted")
    assert "Retry-After" not in answer.headers, "a client that tries again would undo it"
    assert boss.post("/admin/abort", json={"all": True}).json == {"aborted": []}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "id"),
        ({"id": "x", "all": True}, 400, "id"),
        ({"all": False}, 400, "id"),
        ({"id": 5}, 400, "id"),
        ({"id": ""}, 400, "id"),
        ({"all": "yes"}, 400, "all"),
        ({"ids": ["x"]}, 400, "ids"),
        ({"id": "cmpl-unknown"}, 404, "id"),
        ([], 400, None),
    ],
)
def test_a_bad_abort_says_why(boss, body, status, param):
    response = boss.post("/admin/abort", json=body)
    assert (response.status_code, response.json["error"]["param"]) == (status, param)


def test_a_tenant_reaches_neither_the_list_nor_anybodys_request(app):
    client = app.test_client()
    response, _, name = start(app, "acme")
    for tenant in ("acme", "other"):
        assert client.get("/admin/requests", headers=bearer(tenant)).status_code == 403
        assert client.post("/admin/abort", json={"id": name}, headers=bearer(tenant)).status_code == 403
    response.close()
    drained(app)


def test_prefixes_are_shared_within_a_tenant_and_not_across(app):
    def cached(tenant):
        body = {"prompt": PROMPT, "max_tokens": 1}
        usage = app.test_client().post("/v1/completions", json=body, headers=bearer(tenant)).json["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    assert cached("acme") == 0
    assert cached("acme") > 0
    assert cached("other") == 0
    assert cached("other") > 0


def test_draining_finishes_what_runs_and_takes_nothing_new(registry):
    catalog = build_catalog(["tiny/1"], ServingConfig(dtype="float32", kv_memory_mb=4), registry)
    app = create_app(catalog, HttpConfig(api_key="boss"))
    try:
        client = app.test_client()
        response, pieces, _ = start(app, "boss", max_tokens=200, min_tokens=200)
        assert client.post("/admin/drain", json={"now": 1}, headers=BOSS).status_code == 400
        assert client.get("/readyz").status_code == 200
        answer = client.post("/admin/drain", json={}, headers=BOSS)
        assert (answer.status_code, answer.json["status"]) == (202, "draining")
        assert client.get("/readyz").status_code == 503 and client.get("/health").status_code == 200
        refused = client.post("/v1/completions", json=LONG, headers=BOSS)
        assert (refused.status_code, refused.json["error"]["code"]) == (503, "draining")
        assert b'"finish_reason":"length"' in b"".join(pieces)
        response.close()
        assert client.get("/admin/requests", headers=BOSS).json["data"] == []
    finally:
        for model in catalog.all():
            model.engine.close()


def test_a_response_is_aborted_by_the_id_that_its_client_knows():
    assert is_part("resp-abc-0", "resp_abc") and is_part("resp-abc-0", "resp-abc") and is_part("resp-abc-0", "resp-abc-0")
    assert not is_part("resp-abcd-0", "resp_abc") and not is_part("resp-abc-0", None)
