"""Thumbs and comparisons: stored with what answered, kept through anything, and learnt from."""

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner
from scripted_engine import Catalog, scripted_model
from test_limits import Tenants

from lifecycle.errors import LifecycleError
from lifecycle.feedback.judgements import Feedback, preferences
from lifecycle.rlhf.pairs import read_file
from serving.domain.errors import FeedbackUnavailable
from serving.domain.quota import Limits
from serving.feedback_commands import feedback as feedback_command
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

PATH = "/v1/feedback"
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}]
THUMB = {
    "kind": "thumb",
    "rating": "up",
    "messages": ASKED,
    "answer": "Rayleigh.",
    "model": "production",
    "comment": None,
}
COMPARISON = {
    "kind": "comparison",
    "messages": [{"role": "user", "content": "2 + 2?"}],
    "answers": ["4", "5"],
    "chosen": 0,
    "models": ["parrot", "production"],
}
EDIT = {"kind": "edit", "messages": ASKED, "answer": "Rayleigh.", "edited": "It scatters blue light most.", "model": None}


@pytest.fixture
def store():
    return SqliteFeedback(":memory:")


@pytest.fixture
def client(store):
    return create_app(Catalog(scripted_model("hi")), feedback=store).test_client()


def test_what_was_thought_before_is_kept(client, store):
    before = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "Two.", "reasoning_content": "One and one."}]
    assert give(client, kind="comparison", messages=[*before, *COMPARISON["messages"]]).status_code == 201
    (row,) = preferences(store.all()).rows
    assert row["prompt"] == [*before, *COMPARISON["messages"]]


def give(client, **changes):
    base = COMPARISON if changes.get("kind") == "comparison" else THUMB
    return client.post(PATH, json={**base, **changes})


def judged(question="q", tenant="t", chosen=None, *answers):
    kind = "thumb" if len(answers) == 1 else "comparison"
    messages = ({"role": "user", "content": question},)
    return Feedback(kind, tenant, messages, answers, ("parrot/1",) * len(answers), chosen)


def test_what_is_given_is_kept_with_the_version_that_answered(client):
    before = give(client)
    after = give(client, **COMPARISON)
    assert (before.status_code, after.status_code) == (201, 201)
    assert before.json["id"] != after.json["id"]
    newest, oldest = client.get(PATH).json["data"]
    assert (oldest["id"], newest["id"]) == (before.json["id"], after.json["id"])
    expected = {"kind": "thumb", "rating": "up", "messages": ASKED, "answer": "Rayleigh.", "model": "parrot/1"}
    assert expected.items() <= oldest.items()
    assert oldest["tenant"] == "default" and oldest["created"] > 1.7e9
    assert newest["models"] == ["parrot/1", "parrot/1"] and newest["chosen"] == 0 and newest["answers"] == ["4", "5"]


def test_an_edit_is_a_comparison_that_the_new_text_won(client, store):
    assert client.post(PATH, json=EDIT).status_code == 201
    kept = client.get(PATH).json["data"][0]
    assert (kept["kind"], kept["chosen"], kept["models"]) == ("comparison", 1, ["parrot/1", "edited"])
    (row,) = preferences(store.all()).rows
    assert row["chosen"][0]["content"] == EDIT["edited"] and row["rejected"][0]["content"] == EDIT["answer"]


@pytest.mark.parametrize(
    ("param", "body"),
    [
        (None, []),
        (None, "thumb"),
        ("kind", {}),
        ("kind", {**THUMB, "kind": "star"}),
        ("kind", {**THUMB, "kind": ["thumb"]}),
        ("rating", {**THUMB, "rating": 1}),
        ("rating", {**THUMB, "rating": "UP"}),
        ("answer", {**THUMB, "answer": None}),
        ("answer", {**THUMB, "answer": "x" * 200_001}),
        ("comment", {**THUMB, "comment": "x" * 4_001}),
        ("messages", {**THUMB, "messages": []}),
        ("messages", {**THUMB, "messages": ASKED * 501}),
        ("messages[0].role", {**THUMB, "messages": [{"role": "wizard", "content": "x"}]}),
        ("messages[0].role", {**THUMB, "messages": [{"content": "x"}]}),
        ("messages[0].content", {**THUMB, "messages": [{"role": "user", "content": 5}]}),
        ("messages[0].content[0].type", {**THUMB, "messages": [{"role": "user", "content": [{"type": "image"}]}]}),
        ("messages[0].colour", {**THUMB, "messages": [{"role": "user", "content": "x", "colour": "red"}]}),
        ("messages", {**THUMB, "messages": [{"role": "user", "content": "x" * 200_000}] * 6}),
        ("ratting", {**THUMB, "ratting": "up"}),
        ("model", {**THUMB, "model": "gpt-9"}),
        ("model", {**THUMB, "model": ""}),
        ("answers", {**COMPARISON, "answers": ["one"]}),
        ("answers[1]", {**COMPARISON, "answers": ["one", 2]}),
        ("chosen", {**COMPARISON, "chosen": 2}),
        ("chosen", {**COMPARISON, "chosen": True}),
        ("chosen", {name: value for name, value in COMPARISON.items() if name != "chosen"}),
        ("models", {**COMPARISON, "models": ["parrot"]}),
        ("answer", {**COMPARISON, "answer": "x"}),
        ("edited", {**EDIT, "edited": EDIT["answer"]}),
        ("edited", {name: value for name, value in EDIT.items() if name != "edited"}),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_feedback_names_the_field_and_is_not_kept(client, store, param, body):
    response = client.post(PATH, json=body)
    assert response.status_code in (400, 404), response.text
    assert response.json["error"]["param"] == param, response.text
    assert store.all() == []


@pytest.mark.parametrize("value", [None, True, 0, -1, 1.5, 10**40, "", "x", [], [None], {}, {"a": [{}]}], ids=repr)
def test_no_value_of_any_field_is_a_server_error(client, value):
    for base in (THUMB, COMPARISON):
        for name in {**THUMB, **COMPARISON}:
            assert client.post(PATH, json={**base, name: value}).status_code in (201, 400, 404)
    for at in ("role", "content", "name", "tool_calls", "tool_call_id"):
        body = {**THUMB, "messages": [{"role": "user", "content": "x", at: value}]}
        assert client.post(PATH, json=body).status_code in (201, 400)


def test_pages_and_filters(client, store):
    for number in range(5):
        store.add(judged(str(number), "ab"[number % 2], 0, "x"))
    first = client.get(PATH + "?limit=2").json
    assert [one["messages"][0]["content"] for one in first["data"]] == ["4", "3"] and first["has_more"]
    second = client.get(f"{PATH}?limit=3&after={first['data'][-1]['id']}").json
    assert [one["messages"][0]["content"] for one in second["data"]] == ["2", "1", "0"] and not second["has_more"]
    assert {one["tenant"] for one in client.get(PATH + "?tenant=a").json["data"]} == {"a"}
    for query, param in (
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=²", "limit"),
        ("after=fb-unknown", "after"),
        ("before=1", "before"),
    ):
        response = client.get(f"{PATH}?{query}")
        assert (response.status_code, response.json["error"]["param"]) == (400, param)
    assert client.get(PATH + "/export?limit=1").status_code == 400


def test_a_tenant_gives_and_only_an_admin_reads(store):
    app = create_app(
        Catalog(scripted_model("hi")), HttpConfig(api_key="boss"), keys=[Tenants(acme=Limits(requests_per_minute=1))],
        feedback=store,
    )  # fmt: skip
    client, acme = app.test_client(), {"Authorization": "Bearer acme"}
    assert client.post(PATH, json=THUMB).status_code == 401
    assert client.post(PATH, json=THUMB, headers=acme).status_code == 201
    assert client.post(PATH, json=THUMB, headers=acme).status_code == 429, "a flood of thumbs counts like any other"
    for route in (PATH, PATH + "/export"):
        assert client.get(route).status_code == 401
        assert client.get(route, headers=acme).status_code == 403
    (kept,) = client.get(PATH, headers={"Authorization": "Bearer boss"}).json["data"]
    assert kept["tenant"] == "acme"


def test_what_is_exported_is_what_rlhf_reads(client, tmp_path):
    give(client, **COMPARISON)
    give(client, rating="up", answer="Rayleigh scattering.")
    give(client, rating="down", answer="It\u2028is painted \U0001f600.")
    give(client, rating="down", messages=[{"role": "user", "content": "alone"}])
    exported = client.get(PATH + "/export")
    assert exported.mimetype == "application/jsonl"
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(exported.data)
    rows, _ = read_file(file)
    assert list(rows) == [
        {
            "prompt": COMPARISON["messages"],
            "chosen": [{"role": "assistant", "content": "4"}],
            "rejected": [{"role": "assistant", "content": "5"}],
        },
        {
            "prompt": ASKED,
            "chosen": [{"role": "assistant", "content": "Rayleigh scattering."}],
            "rejected": [{"role": "assistant", "content": "It\u2028is painted \U0001f600."}],
        },
    ]


def test_votes_decide():
    def pairs(*everything):
        rows = preferences(everything).rows
        return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]

    assert pairs(judged("q", "t", 1, "a", "b")) == [("b", "a")]
    assert pairs(judged("q", "t", None, "a", "b")) == [], "neither is better"
    assert pairs(judged("q", "t", 0, "a", "a")) == []
    assert pairs(judged("q", "t", 0, "a", "b"), judged("q", "u", 0, "b", "a")) == [], "one for each"
    assert pairs(*[judged("q", "t", 0, "a", "b")] * 2, judged("q", "u", 0, "b", "a")) == [("a", "b")]
    assert pairs(judged("q", "t", 0, "a"), judged("p", "t", None, "b")) == [], "not the same prompt"
    up, down = judged("q", "t", 0, "a"), judged("q", "t", None, "b")
    assert pairs(down, up) == [("a", "b")]
    assert pairs(up, down, judged("q", "u", None, "a")) == [], "as many like it as do not"
    assert pairs(up, down, judged("q", "t", 0, "b", "a")) == [("b", "a")], "a comparison says more than thumbs"
    assert pairs(up, judged("q", "t", 0, "c"), down) == [("a", "b")], "every answer at most once"


def test_a_prompt_of_more_than_text_is_left_out_and_counted():
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    rows = []
    tool, developer = {"role": "tool", "content": "42"}, {"role": "developer", "content": "x"}
    for messages in ((called,), (tool,), (parts,), (developer,)):
        rows.append(Feedback("comparison", "t", messages, ("y", "n"), ("v", "v"), 0))
    found = preferences(rows)
    assert found.skipped == 2
    assert [row["prompt"] for row in found.rows] == [
        [{"role": "user", "content": "ab"}],
        [{"role": "system", "content": "x"}],
    ]


def test_the_command_exports_beside_a_running_server(tmp_path):
    source, out = tmp_path / "kept" / "feedback.sqlite", tmp_path / "pairs.jsonl"
    arguments = ["export", "--out", str(out), "--feedback", str(source)]

    def run(*more):
        return CliRunner().invoke(feedback_command, [*arguments, *more], catch_exceptions=False)

    with pytest.raises(LifecycleError, match="does not exist"):
        run()
    store = SqliteFeedback(source)
    store.add(judged("one", "a", 0, "y", "n"))
    with pytest.raises(LifecycleError, match="no preference"):
        run("--tenant", "nobody")
    assert "two prompts" in run().stderr
    store.add(judged("two", "b", 1, "y", "n"))
    assert run().stdout == f"2 pairs for 2 prompts in {out}\n"
    assert len(read_file(out)[0]) == 2
    store.close()


def test_many_threads_and_processes_write_one_file(tmp_path):
    file = tmp_path / "feedback.sqlite"
    code = """
import sys
from lifecycle.feedback.judgements import Feedback
from serving.infrastructure.feedback_sqlite import SqliteFeedback
store = SqliteFeedback(sys.argv[1])
for number in range(25):
    store.add(Feedback("thumb", sys.argv[2], ({"role": "user", "content": str(number)},), ("x",), ("v/1",), 0))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, file, f"p{number}"]) for number in range(3)]
    store = SqliteFeedback(file)
    threads = [
        threading.Thread(target=lambda name=name: [store.add(judged("q", name, 0, "x")) for _ in range(25)])
        for name in ("t0", "t1", "t2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(timeout=60) for process in processes] == [0] * 3
    kept = store.all()
    assert len(kept) == len({one.id for one in kept}) == 150
    assert all(len(store.all(tenant=name)) == 25 for name in ("t0", "t1", "t2", "p0", "p1", "p2"))


def test_a_new_file_may_be_opened_by_many_at_the_same_moment(tmp_path):
    together, failed = threading.Barrier(8), []

    def open_all():
        for number in range(100):
            together.wait()
            try:
                SqliteFeedback(tmp_path / str(number)).check()
            except LifecycleError as error:
                failed.append(error)

    threads = [threading.Thread(target=open_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    file = tmp_path / "feedback.sqlite"
    code = """
import sys
from lifecycle.feedback.judgements import Feedback
from serving.infrastructure.feedback_sqlite import SqliteFeedback
store = SqliteFeedback(sys.argv[1])
while True:
    one = Feedback("thumb", "t", ({"role": "user", "content": "q"},), ("x",), ("v/1",), 0)
    store.add(one)
    print(one.id, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code, file], stdout=subprocess.PIPE, text=True)
    acknowledged = [process.stdout.readline().strip() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [line.strip() for line in process.communicate(timeout=30)[0].splitlines()]
    kept = {one.id for one in SqliteFeedback(file).all()}
    assert set(acknowledged) <= kept


def test_files_that_are_not_ours_are_refused(tmp_path):
    other = tmp_path / "other.sqlite"
    other.write_text("this is no database, and longer than a header would be " * 4)
    newer = tmp_path / "newer.sqlite"
    SqliteFeedback(newer).check()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 2")
    for path, expected in ((other, "--feedback"), (newer, "newer version"), (tmp_path, "--feedback")):
        with pytest.raises(LifecycleError, match=expected):
            SqliteFeedback(path).check()
    with pytest.raises(FeedbackUnavailable):
        SqliteFeedback(other).all()
    app = create_app(Catalog(scripted_model("hi")), feedback=SqliteFeedback(other))
    assert app.test_client().post(PATH, json=THUMB).status_code == 503


def test_a_full_database_refuses_and_keeps_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr("lifecycle.feedback.sqlite_file.MAX_BYTES", 2**16)
    client = create_app(Catalog(scripted_model("hi")), feedback=SqliteFeedback(tmp_path / "f.sqlite")).test_client()
    statuses = [give(client, answer="x" * 10_000).status_code for _ in range(12)]
    kept = statuses.count(201)
    assert 0 < kept < 12 and statuses == [201] * kept + [503] * (12 - kept)
    assert len(client.get(PATH).json["data"]) == kept


def test_a_server_without_a_store_has_no_such_routes():
    assert create_app(Catalog(scripted_model("hi"))).test_client().post(PATH, json=THUMB).status_code == 404


@pytest.mark.slow
def test_dpo_learns_from_what_was_exported(registry, tmp_path):
    """The whole way: judgements, a file, a step of DPO."""
    from lifecycle.presets import preset
    from lifecycle.rlhf import dpo, pairs

    rows = [judged(f"the fox {number}", "t", number % 2, "the lazy dog", "the quick fox") for number in range(4)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(preferences(rows).lines()))
    kept = pairs.keep(*read_file(file), registry)
    config = dataclasses.replace(preset("tiny").rlhf, dpo_steps=2, dpo_batch=2)
    version = dpo.run(config, registry, parent=registry.load("tiny/1"), pairs=kept)
    assert version.manifest.data.hash == kept.manifest.files["pairs.jsonl"].sha256
    assert [parent.ref for parent in version.manifest.parents] == ["tiny/1", kept.ref]
    assert version.manifest.metrics["loss"] > 0
