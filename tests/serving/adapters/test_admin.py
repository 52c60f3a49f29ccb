"""The same over HTTP."""

import pytest

from serving.composition import ServingConfig, build_catalog
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig


@pytest.fixture(scope="module")
def catalog(registry):
    catalog = build_catalog(["tiny/1"], ServingConfig(dtype="float32", kv_memory_mb=4, adapters=True), registry)
    yield catalog
    for model in catalog.engines():
        model.engine.close()


@pytest.fixture
def client(catalog):
    return create_app(catalog).test_client()


def ask(client, model):
    return client.post("/v1/completions", json={"model": model, "prompt": "the quick", "max_tokens": 4, "temperature": 0})


def test_a_model_an_alias_and_an_adapter_come_and_go(client):
    loaded = client.post("/admin/models", json={"ref": "other", "kv_memory_mb": 2})
    assert (loaded.status_code, loaded.json["id"], loaded.json["version"]) == (201, "other", "other/1")
    assert client.post("/admin/aliases", json={"alias": "second", "model": "other"}).json["aliases"] == ["second"]
    added = client.post("/admin/adapters", json={"name": "pirate", "ref": "adapter/1"})
    assert (added.status_code, added.json["parent"], added.json["lineage"]) == (201, "tiny", ["adapter/1", "tiny/1"])
    listed = client.get("/v1/models").json["data"]
    assert [(model["id"], model["parent"]) for model in listed] == [("tiny", None), ("other", None), ("pirate", "tiny")]
    for name in ("tiny", "second", "pirate", "adapter/1"):
        assert ask(client, name).status_code == 200
    stats = client.get("/stats").json["models"]
    assert [one["model"] for one in stats] == ["tiny", "other"], "an adapter has no engine of its own to count twice"
    assert 'engine_steps_total{model_name="tiny"}' in client.get("/metrics").text
    assert 'engine_steps_total{model_name="pirate"}' not in client.get("/metrics").text
    assert client.delete("/admin/models/other").json == {
        "id": "other", "object": "model", "deleted": True, "all_finished": True
    }  # fmt: skip
    assert client.delete("/admin/adapters/tiny").status_code == 400
    assert client.delete("/admin/adapters/pirate").status_code == 200
    for name in ("other", "second", "pirate"):
        gone = ask(client, name)
        assert (gone.status_code, gone.json["error"]["param"]) == (404, "model")
    assert ask(client, "tiny").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("post", "models", {}, 400, "ref"),
        ("post", "models", {"ref": 3}, 400, "ref"),
        ("post", "models", {"ref": ""}, 400, "ref"),
        ("post", "models", {"ref": "tiny/9"}, 400, "ref"),
        ("post", "models", {"ref": "\x00"}, 400, "ref"),
        ("post", "models", {"ref": "../other"}, 400, "ref"),
        ("post", "models", {"ref": "other", "kv_memory_mb": -1}, 400, "kv_memory_mb"),
        ("post", "models", {"ref": "other", "kv_memory_mb": 2**70}, 400, "kv_memory_mb"),
        ("post", "models", {"ref": "other", "kv_memory_mb": 2**23}, 409, "ref"),
        ("post", "models", {"ref": "other", "kv_memory_mb": True}, 400, "kv_memory_mb"),
        ("post", "models", {"ref": "other", "adapters": "yes"}, 400, "adapters"),
        ("post", "models", {"ref": "other", "colour": 1}, 400, "colour"),
        ("post", "models", {"ref": "tiny"}, 400, "ref"),
        ("post", "models", {"ref": "tiny/1"}, 409, "ref"),
        ("post", "models", [], 400, None),
        ("post", "aliases", {"alias": "x", "model": "nobody"}, 404, "model"),
        ("post", "aliases", {"alias": "X y", "model": "tiny"}, 400, "alias"),
        ("post", "aliases", {"alias": "tiny", "model": "tiny"}, 409, "alias"),
        ("post", "adapters", {"name": "pirate", "ref": "/etc"}, 400, "ref"),
        ("post", "adapters", {"name": "Ümläut", "ref": "adapter/1"}, 400, "name"),
        ("post", "adapters", {"name": "tiny", "ref": "adapter/1"}, 409, "name"),
        ("post", "adapters", {"name": "pirate", "ref": "adapter/1", "base": "nobody"}, 404, "model"),
        ("delete", "models/nobody", None, 404, "model"),
        ("delete", "models/tiny", None, 409, "name"),
        ("delete", "aliases/nobody", None, 404, "alias"),
        ("delete", "adapters/nobody", None, 404, "model"),
    ],
)
def test_mistakes_are_refused_and_change_nothing(client, method, path, body, status, param):
    before = client.get("/v1/models").json
    response = getattr(client, method)(f"/admin/{path}", **({} if body is None else {"json": body}))
    assert (response.status_code, response.json["error"]["param"]) == (status, param), response.json
    assert client.get("/v1/models").json == before


def test_the_key_guards_it(catalog):
    client = create_app(catalog, HttpConfig(api_key="secret")).test_client()
    assert client.post("/admin/models", json={"ref": "other"}).status_code == 401
    assert client.delete("/admin/models/tiny").status_code == 401
    assert client.post("/admin/adapters", data="x").status_code == 401


def test_feedback_on_an_adapters_answer_is_about_the_adapter(catalog, tmp_path):
    client = create_app(catalog, feedback=SqliteFeedback(tmp_path / "feedback.sqlite")).test_client()
    assert client.post("/admin/adapters", json={"name": "pirate", "ref": "adapter/1"}).status_code == 201
    asked = {"kind": "comparison", "messages": [{"role": "user", "content": "ahoy"}], "answers": ["arr", "hello"]}
    assert client.post("/v1/feedback", json={**asked, "chosen": 0, "models": ["pirate", None]}).status_code == 201
    assert client.delete("/admin/adapters/pirate").status_code == 200
    (kept,) = client.get("/v1/feedback").json["data"]
    assert kept["models"] == ["adapter/1", "tiny/1"], "still when it has gone"
