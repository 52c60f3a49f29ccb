"""/registry: what the page shows of a real registry, and the gate that production moves through."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from lifecycle.registry import DataRef, ModelRegistry
from serving.presentation.app import create_app
from serving.presentation.examinations import Busy, Examinations
from serving.presentation.state import HttpConfig

LIMIT = 1  # tasks of each skill: the gate is here to be passed, not to be trusted


@pytest.fixture(scope="module")
def stages(registry: ModelRegistry, tmp_path_factory) -> ModelRegistry:
    """A registry of its own with seed/1 -> deploy/1 (production), deploy/2, and an alias "old" of seed/1."""
    source = registry.resolve("tiny/1").path
    mine = ModelRegistry(tmp_path_factory.mktemp("stages"))

    def copy(directory: Path) -> None:
        for file in source.iterdir():
            if file.name not in ("manifest.json", "README.md"):
                (directory / file.name).write_bytes(file.read_bytes())

    seed = mine.publish("seed", copy, stage="sft", data=DataRef("text", "0" * 64), metrics={"loss": 2.5}, config={"lr": 0.1})
    for loss in (0.5, 0.25):
        mine.publish("deploy", copy, parents=[seed], metrics={"loss": loss, "mean_difference": 0.0}, config={"report_limit": LIMIT})
    mine.set_alias("production", "deploy/1")
    mine.set_alias("old", "seed/1")
    return mine


@pytest.fixture
def client(catalog, stages):
    return create_app(catalog, HttpConfig(registry=stages.root)).test_client()


def test_every_version_comes_with_parents_aliases_and_the_reason_not_to_promote_it(client):
    found = client.get("/registry").json
    versions = {version["ref"]: version for version in found["versions"]}
    assert sorted(versions) == ["deploy/1", "deploy/2", "seed/1"]
    assert versions["deploy/1"]["parents"] == ["seed/1"]
    assert versions["deploy/1"]["aliases"] == ["production"]
    assert versions["deploy/2"]["refusal"] is None
    assert versions["seed/1"]["refusal"] == "only deployed versions become production: lifecycle deploy --parent seed/1"
    assert versions["seed/1"]["headline"] == {"name": "loss", "value": 2.5}
    assert found["aliases"] == {"production": "deploy/1", "old": "seed/1"}


def test_an_alias_that_means_another_version_by_now_is_pointed_out(client):
    """The server loaded tiny/1 as production; in this registry production is deploy/1."""
    assert client.get("/registry").json["behind"] == [
        {"alias": "production", "serves": "tiny/1", "registry": "deploy/1"}
    ]


def test_a_version_shows_its_manifest_and_its_card(client):
    found = client.get("/registry/versions/old").json
    assert found["ref"] == "seed/1"
    assert found["config"] == {"lr": 0.1}
    assert found["report"] is None
    assert found["card"].startswith("# seed/1")
    assert "model.safetensors" in found["files"]


def test_a_difference_names_both_sides(client):
    found = client.get("/registry/diff?a=deploy/1&b=deploy/2").json
    assert (found["a"], found["b"]) == ("deploy/1", "deploy/2")
    assert found["sections"]["metrics"] == [["loss", 0.5, 0.25]]
    assert "config" not in found["sections"]  # where they do not differ


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("/registry/versions/nothing/1", 404, "ref"),
        ("/registry/versions/../../etc/passwd", 404, "ref"),
        ("/registry/versions/deploy", 404, "ref"),  # two of them
        ("/registry/diff?a=seed/1", 400, "b"),
        ("/registry/diff?a=seed/1&b=seed/9", 404, "ref"),
    ],
)
def test_wrong_names_are_refused(client, path, status, param):
    answer = client.get(path)
    assert (answer.status_code, answer.json["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [({}, 400, "ref"), ({"ref": 3}, 400, "ref"), ({"ref": "seed/1"}, 400, "ref"), ({"ref": "x/1"}, 404, "ref"), ({"ref": "seed/1", "force": True}, 400, "force")],
)
def test_what_cannot_be_promoted_is_refused(client, stages, body, status, param):
    answer = client.post("/registry/promote", json=body)
    assert (answer.status_code, answer.json["error"]["param"]) == (status, param)
    assert stages.aliases()["production"] == "deploy/1"


def test_everything_asks_for_the_key(catalog, stages):
    client = create_app(catalog, HttpConfig(api_key="secret", registry=stages.root)).test_client()
    for path in ("", "/versions/seed/1", "/diff?a=seed/1&b=deploy/1", "/job"):
        assert client.get("/registry" + path).status_code == 401
    for path in ("/promote", "/report"):
        assert client.post("/registry" + path, json={"ref": "deploy/2"}).status_code == 401


def test_without_a_registry_there_are_no_routes(catalog):
    assert create_app(catalog).test_client().get("/registry").status_code == 404


def test_a_damaged_version_is_listed_with_what_is_wrong(catalog, stages, tmp_path):
    copy = tmp_path / "damaged"
    copy.mkdir()
    for file in stages.resolve("seed/1").path.parent.parent.rglob("manifest.json"):
        target = copy / file.relative_to(stages.root)
        target.parent.mkdir(parents=True)
        target.write_text("{" if "deploy/2" in str(target) else file.read_text())
    found = create_app(catalog, HttpConfig(registry=copy)).test_client().get("/registry").json["versions"]
    (broken,) = [version for version in found if "problem" in version]
    assert broken["ref"] == "deploy/2" and "corrupt" in broken["problem"]


def finished(client) -> dict:
    """The job, once it is no longer running."""
    while (job := client.get("/registry/job").json)["state"] == "running":
        time.sleep(0.05)  # the examination wants the core
    return job


def test_promotion_goes_through_the_report_card_and_moves_the_alias(client, stages):
    started = client.post("/registry/promote", json={"ref": "deploy/2"})
    assert (started.status_code, started.json["kind"]) == (202, "promote")
    job = finished(client)
    assert job["state"] == "done", job["lines"]
    assert job["lines"][-1] == "production: deploy/1 -> deploy/2"
    assert stages.aliases()["production"] == "deploy/2"
    assert stages.alias_moves()[-1].reason == "no skill worse than deploy/1's"


def test_one_examination_at_a_time(stages):


    examinations, go, begun = Examinations(stages), threading.Event(), threading.Event()

    def wait(job) -> str:
        begun.set()
        go.wait(10)
        return "done"

    examinations._start("report", "seed/1", wait)
    begun.wait(10)
    with pytest.raises(Busy):
        examinations.report("deploy/1")
    go.set()


def test_answers_are_json_that_everybody_reads(client):
    json.loads(client.get("/registry").text, parse_constant=pytest.fail)
