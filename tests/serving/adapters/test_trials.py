"""A candidate beside production: who is answered by whom, what is compared, what is taken back, and what nobody notices."""

import shutil
import threading

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from serving.application.canary import Canary
from serving.composition import ServingConfig, build_catalog
from serving.domain.canary import Outcome
from serving.domain.errors import Conflict, Draining, QueueFull
from serving.infrastructure.catalog import BUSY
from serving.infrastructure.following import Follower
from serving.infrastructure.trials import Trials, examine
from serving.presentation.app import create_app

BODY = {"model": "production", "prompt": "the quick", "max_tokens": 4, "temperature": 0, "ignore_eos": True}


class Desk:
    """A server with trials that are looked after when the test says so."""

    def __init__(self, registry, worse=(), examine=None, others=(), **rules):
        self.registry, self.worse = registry, list(worse)
        config = ServingConfig(dtype="float32", kv_memory_mb=4, **{"canary_requests": 5, **rules})
        self.catalog = build_catalog(["production"], config, registry)
        self.canary = Canary(config)
        follower = Follower(self.catalog, registry, "production", registry.aliases()["production"], others=others)
        self.trials = Trials(self.catalog, registry, self.canary, follower, examine=examine or (lambda *_: self.worse))
        self.client = create_app(self.catalog, canary=self.canary).test_client()

    def ask(self, session=None, **fields):
        headers = {} if session is None else {"X-Session-Id": session}
        return self.client.post("/v1/completions", json={**BODY, **fields}, headers=headers)

    def version(self, session=None, **fields):
        answer = self.ask(session, **fields)
        assert answer.status_code == 200, answer.json
        assert answer.json["system_fingerprint"] == answer.headers["x-model-version"]
        return answer.headers["x-model-version"]

    def saw(self, version, times=10, **outcome):
        for _ in range(times):
            self.canary.observe(version, Outcome(**{"failed": False, "first_token": 0.1, "per_token": 0.01, **outcome}))

    def close(self):
        for model in (*self.catalog.engines(), *self.catalog.retiring()):
            model.engine.close()


@pytest.fixture
def mine(registry, tmp_path) -> ModelRegistry:
    """A copy of the registry whose aliases may move: production tiny/1, candidate tiny/2."""
    root = tmp_path / "registry"
    shutil.copytree(registry.root, root)
    (root / "aliases.jsonl").unlink()
    copy = ModelRegistry(root)
    copy.set_alias("production", "tiny/1")
    copy.set_alias("candidate", "tiny/2")
    return copy


@pytest.fixture
def desk(mine):
    made = []

    def make(**options):
        made.append(Desk(mine, **options))
        made[-1].trials.look()
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_share_of_the_sessions_is_answered_by_the_candidate_and_stays_with_it(desk):
    server = desk(canary_percent=50)
    first = {str(session): server.version(str(session)) for session in range(16)}
    assert set(first.values()) == {"tiny/1", "tiny/2"}
    assert {session: server.version(session) for session in first} == first
    assert {server.version(model=name) for name in ("tiny/1",) * 8} == {"tiny/1"}, "who asks for a version gets it"
    assert server.version(model="candidate") == "tiny/2"
    counted = {version: server.canary.windows.sample(version) for version in ("tiny/1", "tiny/2")}
    assert sum(one.requests for one in counted.values()) == 2 * 16 + 8 + 1 and not any(one.failures for one in counted.values())


def test_a_candidate_that_fails_to_take_a_request_costs_nobody_an_answer(desk):
    server = desk(canary_percent=100)
    engine = server.catalog.get("candidate").engine

    def full(request):
        raise QueueFull("no place", retry_after=1)

    submit, engine.submit = engine.submit, full
    assert server.version() == "tiny/1" and server.canary.windows.sample("tiny/2").failures == 1
    engine.submit = submit
    assert server.ask(max_tokens=10_000).status_code == 400, "the client's mistakes are its own"
    server.canary.windows.forget("tiny/2")
    engine.drain(0)
    assert server.version() == "tiny/1" and server.canary.windows.sample("tiny/2").failures == 0


def test_shadows_are_computed_compared_and_never_seen(desk):
    server = desk(shadow_percent=100)
    assert {server.version() for _ in range(3)} == {"tiny/1"}
    wait(lambda: server.canary.shadows.total() == 3)
    assert server.canary.shadows["different"] == 3, "two random models do not say the same"
    assert server.canary.windows.sample("tiny/2").requests == 3
    page = server.client.get("/metrics").text
    assert 'serving:canary_shadows_total{result="different"} 3' in page
    assert 'serving:canary_window_requests{version="tiny/2",role="candidate"} 3' in page


def test_a_shadow_of_the_same_weights_says_the_same(desk, mine):
    same = mine.publish("twin", lambda place: shutil.copytree(mine.load("tiny/1").path, place, dirs_exist_ok=True))
    mine.set_alias("candidate", same.ref)
    server = desk(shadow_percent=100)
    assert server.version() == "tiny/1"
    wait(lambda: server.canary.shadows.total() == 1)
    assert server.canary.shadows["same"] == 1


@pytest.mark.parametrize(
    ("error", "result", "failures"),
    [
        (Conflict("the model was replaced while it listened"), "skipped", 0),
        (Draining("it takes no new requests"), "skipped", 0),
        (QueueFull("no place"), "failed", 1),
    ],
)
def test_a_shadow_that_is_refused_fails_only_where_the_candidate_does(desk, error, result, failures):
    server = desk(shadow_percent=100)

    def refuse(request):
        raise error

    server.catalog.get("candidate").engine.submit = refuse
    assert server.version() == "tiny/1"
    wait(lambda: server.canary.shadows.total() == 1)
    sample = server.canary.windows.sample("tiny/2")
    assert server.canary.shadows[result] == 1 and (sample.requests, sample.failures) == (failures, failures)


@pytest.mark.parametrize(
    ("outcome", "why"),
    [({"failed": True}, "all of its 10 requests failed"), ({"first_token": 0.2}, "median first token takes 200.0 ms against 100.0 ms")],
)
def test_a_candidate_that_does_worse_is_taken_back_on_record(desk, mine, outcome, why):
    server = desk(canary_percent=100)
    assert server.version() == "tiny/2"
    server.canary.windows.forget("tiny/2")
    server.saw("tiny/1")
    server.saw("tiny/2", **outcome)
    server.trials.look()
    assert server.version() == "tiny/1" and server.canary.trial is None
    move = mine.alias_moves()[-1]
    assert (move.alias, move.source, move.target) == ("candidate", "tiny/2", "tiny/1") and why in move.reason
    wait(lambda: len(server.catalog.engines()) == 1 and not server.catalog.retiring())
    mine.set_alias("candidate", "tiny/2")
    server.trials.look()
    assert server.canary.trial is None, "not again"
    mine.set_alias("candidate", "other/1")
    server.trials.look()
    assert server.version() == "other/1"


def test_a_report_card_that_is_worse_ends_the_trial_before_it_begins(desk, mine):
    server = desk(canary_percent=100, canary_card=1, worse=["arithmetic 0% against 50%"])
    wait(lambda: server.trials.look() or mine.aliases()["candidate"] == "tiny/1")
    assert "report card is worse in: arithmetic" in mine.alias_moves()[-1].reason
    assert server.version() == "tiny/1"


def test_a_report_card_that_cannot_be_made_is_told_once(desk, mine, caplog):
    def examine(*_):
        raise LifecycleError("tiny/2 is damaged")

    server = desk(canary_percent=100, canary_card=1, examine=examine)
    wait(lambda: server.trials.look() or "tiny/2 cannot be examined" in caplog.text)
    for _ in range(3):
        server.trials.look()
    assert caplog.text.count("tiny/2 is damaged") == 1 and server.version() == "tiny/1"


def test_report_cards_are_made_of_both(mine):
    assert examine(mine, "tiny/1", "tiny/1", 1) == []


def test_production_takes_over_the_engine_on_trial_under_its_names(desk, mine):
    server = desk(canary_percent=100)
    engine = server.catalog.get("candidate").engine
    mine.set_alias("production", "tiny/2")
    server.trials.look()
    assert {server.version(model=name) for name in ("production", "tiny", None)} == {"tiny/2"}
    assert server.catalog.get("production").engine is engine and server.canary.trial is None
    assert server.ask(model="candidate").status_code == 404
    mine.set_alias("candidate", "tiny/1")
    wait(lambda: not server.catalog.retiring())
    server.trials.look()
    assert server.version() == "tiny/1" and server.canary.trial is not None


def test_a_production_that_does_worse_goes_back_and_is_not_tried_again(desk, mine):
    mine.set_alias("candidate", "tiny/1")
    server = desk(canary_watch=True)
    server.saw("tiny/1")
    mine.set_alias("production", "tiny/2")
    server.trials.look()
    assert server.version() == "tiny/2"
    server.saw("tiny/2", failed=True, times=40)
    server.trials.look()
    assert server.version() == "tiny/1" and mine.aliases()["production"] == "tiny/1"
    assert "tiny/2 rolled back: 9" in mine.alias_moves()[-1].reason
    server.trials.look()
    assert server.version() == "tiny/1"
    page = server.client.get("/metrics").text
    assert 'serving:canary_rollbacks_total{role="production"} 1' in page


def test_going_back_waits_for_what_is_being_loaded(desk, mine, monkeypatch):
    mine.set_alias("candidate", "tiny/1")
    server = desk(canary_watch=True)
    server.saw("tiny/1")
    mine.set_alias("production", "tiny/2")
    server.trials.look()
    server.saw("tiny/2", failed=True, times=40)
    with monkeypatch.context() as patch:

        def busy(*_, **__):
            raise Conflict("another model is being loaded", code=BUSY)

        patch.setattr(server.catalog, "swap", busy)
        server.trials.look()
        assert server.version() == "tiny/2" and server.canary.rollbacks["production"] == 0
    server.trials.look()
    assert server.version() == "tiny/1" and mine.aliases()["production"] == "tiny/1"
    assert server.canary.rollbacks["production"] == 1


def test_going_back_to_what_another_alias_needs(mine):
    mine.set_alias("candidate", "tiny/1")
    server = Desk(mine, canary_watch=True, others=("production", "staging"))
    try:
        server.catalog.set_alias("staging", "tiny/1")
        server.trials.look()
        server.saw("tiny/1")
        engine = server.catalog.get("staging").engine
        mine.set_alias("production", "tiny/2")
        server.trials.look()
        assert server.version() == "tiny/2" and server.version(model="staging") == "tiny/1"
        server.saw("tiny/2", failed=True, times=40)
        server.trials.look()
        assert server.version() == "tiny/1" and server.catalog.get("production").engine is engine
    finally:
        server.close()


def test_going_back_by_hand_is_not_overruled(desk, mine):
    mine.set_alias("candidate", "tiny/1")
    server = desk(canary_watch=True)
    server.saw("tiny/1")
    for ref, first_token in (("tiny/2", 0.1), ("tiny/1", 0.9)):
        mine.set_alias("production", ref)
        server.trials.look()
        server.saw(ref, times=40, first_token=first_token)
    server.trials.look()
    assert server.version() == "tiny/1" and mine.aliases()["production"] == "tiny/1"


@pytest.mark.parametrize("trouble", ["tampered", "read-only"])
def test_what_cannot_be_loaded_or_written_leaves_production_as_it_was(desk, mine, trouble, caplog, monkeypatch):
    if trouble == "tampered":
        weights = mine.resolve("tiny/2").path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    server = desk(canary_percent=100)
    if trouble == "read-only":

        def refuse(*_, **__):
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("lifecycle.registry.store.append_move", refuse)
        server.saw("tiny/1")
        server.saw("tiny/2", failed=True)
        server.trials.look()
    assert server.version() == "tiny/1" and mine.aliases() == {"production": "tiny/1", "candidate": "tiny/2"}
    told = [record.message for record in caplog.records if record.name.startswith("serving.infrastructure.trials")]
    assert any({"tampered": "model.safetensors is corrupt", "read-only": "Read-only file system"}[trouble] in line for line in told)
    assert all("\n" not in line for line in told)


def test_a_version_that_retires_is_still_listed(desk, mine):
    server = desk(canary_watch=True)
    engine = server.catalog.get("production").engine
    engine.pause()
    told = {}
    waiting = threading.Thread(target=lambda: told.update(answer=server.ask()))
    waiting.start()
    wait(lambda: engine.unfinished())
    mine.set_alias("production", "tiny/2")
    server.trials.look()
    (listed,) = server.client.get("/admin/requests").json["data"]
    assert listed["model"] == "tiny/1 (retiring)"
    assert 'serving:num_requests_running{model_name="tiny/1 (retiring)"}' in server.client.get("/metrics").text
    engine.resume()
    waiting.join()
    assert told["answer"].headers["x-model-version"] == "tiny/1"
    wait(lambda: not server.catalog.retiring())


def wait(happened):
    """Until something on another thread has happened."""
    done = threading.Event()
    for _ in range(3000):
        if happened():
            return
        done.wait(0.01)
    raise AssertionError("it has not happened")
