"""A server moves from version to version while people ask: nobody is refused, and everybody is told who answered."""

import json
import shutil
import threading
import urllib.error
import urllib.request

import pytest

from lifecycle.registry import ModelRegistry
from serving.composition import ServingConfig, build_catalog
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.infrastructure.following import Follower
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread


@pytest.fixture
def serve(registry):
    """Catalogs of some versions, all of whose engines end with the test."""
    built = []

    def build(*refs, **knobs):
        built.append(build_catalog(refs, ServingConfig(dtype="float32", kv_memory_mb=4, **knobs), registry))
        return built[-1]

    yield build
    for catalog in built:
        for model in catalog.engines():
            model.engine.close()


@pytest.fixture
def moving(registry):
    """The alias production, which goes back to where it was."""
    yield lambda ref: registry.set_alias("production", ref)
    registry.set_alias("production", "tiny/1")


def ask(client, model=None, **fields):
    body = {"prompt": "the quick", "max_tokens": 8, "temperature": 0, "ignore_eos": True, **fields}
    return client.post("/v1/completions", json=body if model is None else {**body, "model": model})


def alone(registry, ref):
    """What a version answers when it is the only one there ever was."""
    catalog = build_catalog([ref], ServingConfig(dtype="float32", kv_memory_mb=4), registry)
    try:
        return ask(create_app(catalog).test_client()).json["choices"][0]["text"]
    finally:
        catalog.all()[0].engine.close()


def test_names_and_aliases_go_to_the_new_version(serve, registry):
    client = create_app(serve("tiny/1")).test_client()
    assert ask(client).headers["x-model-version"] == "tiny/1"
    swapped = client.post("/admin/swap", json={"ref": "tiny/2"})
    assert (swapped.status_code, swapped.json["id"], swapped.json["version"]) == (200, "tiny", "tiny/2")
    for name in (None, "tiny", "production", "tiny/2"):
        assert ask(client, name).headers["x-model-version"] == "tiny/2"
    assert ask(client, "tiny/1").status_code == 404
    assert len(client.get("/v1/models").json["data"]) == 1
    assert ask(client).json["choices"][0]["text"] == alone(registry, "tiny/2") != alone(registry, "tiny/1")


def test_a_model_of_another_name_answers_to_the_old_one_too(serve):
    client = create_app(serve("tiny/1")).test_client()
    assert client.post("/admin/swap", json={"ref": "other", "model": "production"}).json["id"] == "other"
    for name in ("other", "tiny", "production"):
        assert ask(client, name).headers["x-model-version"] == "other/1"
    assert client.post("/admin/swap", json={"ref": "other/1"}).status_code == 200, "it is there already"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_kind_of_answer_says_which_version_gave_it(serve, path, stream):
    client = create_app(serve("tiny/1")).test_client()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    if path.endswith("responses"):
        body = {"input": "hi", "max_output_tokens": 2}
    answer = client.post(path, json={**body, "stream": stream})
    assert answer.status_code == 200 and answer.headers["x-model-version"] == "tiny/1"
    assert "x-model-version" not in client.get("/v1/models").headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "the", "max_tokens": 1}),
        ("/v1/embeddings", {"input": "the"}),
        ("/tokenize", {"prompt": "the"}),
        ("/detokenize", {"tokens": [5]}),
        ("/v1/chat/render", {"messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_so_does_everything_else_that_a_model_says(serve, path, body):
    answer = create_app(serve("tiny/1")).test_client().post(path, json=body)
    assert answer.status_code == 200 and answer.headers["x-model-version"] == "tiny/1", answer.text


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "ref"),
        ({"ref": "tiny/9"}, 400, "ref"),
        ({"ref": "adapter/1"}, 400, "ref"),
        ({"ref": "tiny/2", "model": "nobody"}, 404, "model"),
        ({"ref": "other/1"}, 409, "ref"),
        ({"ref": "tiny/2", "kv_memory_mb": 2**23}, 409, "ref"),
    ],
)
def test_what_cannot_be_swapped_in_changes_nothing(serve, body, status, param):
    client = create_app(serve("tiny/1", "other/1")).test_client()
    refused = client.post("/admin/swap", json=body)
    assert (refused.status_code, refused.json["error"]["param"]) == (status, param), refused.json
    assert ask(client).headers["x-model-version"] == "tiny/1"


def test_a_base_stays_while_it_has_adapters(serve):
    client = create_app(serve("tiny/1", adapters=True)).test_client()
    client.post("/admin/adapters", json={"name": "pirate", "ref": "adapter/1"})
    for model in ("tiny", "pirate"):
        assert client.post("/admin/swap", json={"ref": "tiny/2", "model": model}).status_code == 409


def test_a_request_that_runs_finishes_on_the_version_that_began_it(serve, registry):
    catalog = serve("tiny/1")
    client = create_app(catalog).test_client()
    engine = catalog.get("tiny").engine
    engine.pause()
    told = {}
    waiting = threading.Thread(target=lambda: told.update(old=ask(client)))
    waiting.start()
    while not engine.unfinished():
        pass
    assert client.post("/admin/swap", json={"ref": "tiny/2"}).status_code == 200
    assert ask(client).headers["x-model-version"] == "tiny/2", "the new one does not wait for the old one"
    engine.resume()
    waiting.join()
    assert told["old"].headers["x-model-version"] == "tiny/1"
    assert told["old"].json["choices"][0]["text"] == alone(registry, "tiny/1")


def test_a_request_that_found_the_old_version_just_before_the_swap_is_answered_by_the_new_one(serve):
    catalog = serve("tiny/1")
    old = catalog.get("tiny")
    client = create_app(catalog).test_client()
    submit = old.engine.submit

    def late(request):  # between finding the model and asking its engine, all of a swap happens
        old.engine.submit = submit
        catalog.swap("tiny/2")
        old.engine.drain(0)
        return submit(request)

    old.engine.submit = late
    answer = ask(client)
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, "tiny/2")


def test_while_an_alias_moves_to_and_fro_everybody_is_answered_by_what_the_answer_says(serve, registry, moving):
    catalog = serve("tiny/1")
    expected = {ref: alone(registry, ref) for ref in ("tiny/1", "tiny/2")}
    follower = Follower(catalog, registry, "production", "tiny/1")
    done, wrong, seen = threading.Event(), [], []

    def keep_asking(url):
        body = {"model": "production", "prompt": "the quick", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        while not done.is_set():
            request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    version, text = answer.headers["x-model-version"], json.load(answer)["choices"][0]["text"]
            except (OSError, urllib.error.URLError) as error:
                wrong.append(str(error))
                continue
            seen.append(version)
            if text != expected[version]:
                wrong.append((version, text))

    with run_in_thread(create_app(catalog)) as server:
        clients = [threading.Thread(target=keep_asking, args=(server.url,)) for _ in range(4)]
        for client in clients:
            client.start()
        for ref in ("tiny/2", "tiny/1", "tiny/2"):
            moving(ref)
            follower.look()
            before = len(seen)
            while len(seen) < before + 8 and not wrong:
                pass
        done.set()
        for client in clients:
            client.join()
    assert wrong == [] and set(seen) == {"tiny/1", "tiny/2"}
    assert catalog.get("production").version == "tiny/2" and len(catalog.all()) == 1


def test_a_version_that_cannot_be_served_leaves_the_old_one_and_is_tried_once(serve, registry, moving, caplog):
    catalog = serve("tiny/1")
    follower = Follower(catalog, registry, "production", "tiny/1")
    moving("adapter/1")
    follower.look()
    follower.look()
    assert sum("goes on answering" in record.message for record in caplog.records) == 1
    assert catalog.get("production").version == "tiny/1"
    moving("tiny/2")
    follower.look()
    assert catalog.get("production").version == "tiny/2"


def test_the_follower_looks_by_itself_until_it_is_stopped(serve, registry, moving):
    catalog = serve("tiny/1")
    follower = Follower(catalog, registry, "production", "tiny/1", seconds=0.01).start()
    moving("tiny/2")
    while catalog.get("production").version != "tiny/2":
        pass
    follower.stop()
    moving("tiny/1")
    assert catalog.get("production").version == "tiny/2"


def test_answers_of_a_version_that_is_gone_can_still_be_judged(serve):
    store = SqliteFeedback(":memory:")
    client = create_app(serve("tiny/1"), feedback=store).test_client()
    client.post("/admin/swap", json={"ref": "tiny/2"})
    thumb = {"kind": "thumb", "rating": "down", "messages": [{"role": "user", "content": "hi"}], "answer": "ho"}
    assert client.post("/v1/feedback", json={**thumb, "model": "tiny/1"}).status_code == 201
    assert client.post("/v1/feedback", json={**thumb, "model": "tiny/3"}).status_code == 404
    (kept,) = store.all()
    assert kept.versions == ("tiny/1",)


def test_an_alias_that_moves_to_what_is_served_already_means_it(serve, registry, moving):
    catalog = serve("tiny/1", "tiny/2")
    follower = Follower(catalog, registry, "production", "tiny/1")
    moving("tiny/2")
    follower.look()
    assert catalog.get("production").version == "tiny/2"
    assert [model.version for model in catalog.all()] == ["tiny/2"], "nobody needs the other one"


def test_of_two_aliases_on_one_version_each_moves_alone(registry, tmp_path):
    registry = ModelRegistry(shutil.copytree(registry.root, tmp_path / "registry"))
    registry.set_alias("staging", "tiny/1")
    catalog = build_catalog(["tiny/1"], ServingConfig(dtype="float32", kv_memory_mb=4), registry)
    both = [Follower(catalog, registry, alias, "tiny/1", others=("production", "staging")) for alias in ("production", "staging")]

    def look() -> list[str]:
        for follower in both * 2:
            follower.look()
        return [catalog.get(alias).version for alias in ("production", "staging")]

    registry.set_alias("production", "tiny/2")
    assert look() == ["tiny/2", "tiny/1"]
    engines = {model.version: model.engine for model in catalog.engines()}
    assert look() == ["tiny/2", "tiny/1"] and {model.version: model.engine for model in catalog.engines()} == engines
    registry.set_alias("staging", "tiny/2")
    assert look() == ["tiny/2", "tiny/2"] and len(catalog.engines()) == 1
    catalog.all()[0].engine.close()
