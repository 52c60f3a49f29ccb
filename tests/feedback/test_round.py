"""From marks in a server's file to a version that is served, or to a word about why not."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sft.tiny import same, weights

from lifecycle import pipeline, trainers
from lifecycle.cli import main
from lifecycle.errors import LifecycleError
from lifecycle.feedback import stage
from lifecycle.feedback.config import FeedbackConfig
from lifecycle.feedback.data import collect
from lifecycle.feedback.judgements import EDITED, Feedback
from lifecycle.presets import preset
from serving.infrastructure.feedback_sqlite import FILE_NAME, SqliteFeedback

CONFIG = FeedbackConfig(dtype="fp32", least=2, steps=2, batch=2, save_every=1)


def thumb(prompt: str, answer: str, up: bool) -> Feedback:
    return Feedback("thumb", "t", ({"role": "user", "content": prompt},), (answer,), ("sft/1",), 0 if up else None)


def edit(prompt: str, answer: str, edited: str) -> Feedback:
    messages = ({"role": "user", "content": prompt},)
    return Feedback("comparison", "t", messages, (answer, edited), ("sft/1", EDITED), 1)


def write(path: Path, marks: list[Feedback]) -> Path:
    store = SqliteFeedback(path)
    store.check()
    for mark in marks:
        store.add(mark)
    store.close()
    return path


PAIRS = [mark for word in "abc" for mark in (thumb(word, "yes", True), thumb(word, "no", False))]
LONE = [thumb("d", "good", True), thumb("e", "good too", True), thumb("f", "bad", False)]


def test_thumbs_on_one_prompt_and_edits_make_pairs_and_the_rest_stays_alone(tmp_path):
    found = collect(write(tmp_path / "f.sqlite", [*PAIRS, *LONE, edit("g", "2 + 2 = 5", "2 + 2 = 4")]), 2)
    rows, data = found.pairs
    said = [(row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    assert said == [*((word, "yes", "no") for word in "abc"), ("g", "2 + 2 = 4", "2 + 2 = 5")]
    assert [(row["completion"][0]["content"], row["label"]) for row in found.thumbs[0]] == [
        ("good", True), ("good too", True), ("bad", False)
    ]  # fmt: skip
    assert data.id == "feedback:f.sqlite/pairs" and data.hash != found.thumbs[1].hash


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ([], "holds no mark yet"),
        ([thumb("a", "x", True), thumb("a", "x", False)], "votes cancel out"),
        ([thumb(word, "x", True) for word in "abcd"], "thumbs up alone teach nothing, so give some a thumb down"),
        ([thumb(word, "x", False) for word in "abcd"], "thumbs down alone"),
        ([thumb("a", *said) for said in (("yes", True), ("no", False)) * 20], "all 40 marks on one prompt"),
        (PAIRS[:2] + LONE[:1], "a round takes 3 of either kind: mark more"),
    ],
)
def test_too_little_to_learn_from_is_said_with_what_is_missing(tmp_path, marks, said):
    with pytest.raises(LifecycleError, match=said):
        collect(write(tmp_path / "f.sqlite", marks), 3)


def test_files_that_hold_no_feedback_are_named(tmp_path):
    (tmp_path / "x.sqlite").write_text("this is no database, and longer than a header would be " * 4)
    for name, said in (("x.sqlite", "holds no feedback"), ("none.sqlite", "does not exist")):
        with pytest.raises(LifecycleError, match=said):
            collect(tmp_path / name, 2)


@pytest.mark.parametrize("wrong", [{"lr": -1e-4}, {"lr": 0.0}, {"beta": 0.0}, {"sft_weight": -1.0}])
def test_settings_that_teach_nothing_or_the_opposite_are_refused(wrong):
    with pytest.raises(LifecycleError, match=f"{next(iter(wrong))} must"):
        FeedbackConfig(**wrong)


def test_pairs_teach_by_dpo_and_lone_thumbs_by_kto_once(start, tmp_path, monkeypatch):
    marks = write(tmp_path / "f.sqlite", [*PAIRS, *LONE])
    learn = lambda: stage.run(CONFIG, start.registry, parent=start.registry.load("sft/1"), marks=marks)  # noqa: E731
    version = learn()
    assert version.ref == "rlhf-kto/1"
    assert {one.ref for one in start.registry.lineage("rlhf-kto/1")} >= {"rlhf-dpo/1", "rlhf-pairs/1", "rlhf-thumbs/1", "sft/1"}
    assert (version.manifest.metrics["up"], version.manifest.metrics["down"]) == (2, 1)
    assert not same(weights(version), weights(start.registry.load("rlhf-dpo/1")))
    assert not start.workspaces()
    with monkeypatch.context() as patch:
        patch.setattr(trainers, "train", lambda trainer: pytest.fail("trained again"))
        assert learn().ref == version.ref
    write(marks, [thumb("h", "new", False)])  # which changes the thumbs and not the pairs
    assert learn().ref == "rlhf-kto/2" and not start.registry.versions("rlhf-dpo")[1:]


def test_a_round_of_pairs_alone_or_of_thumbs_alone(start, tmp_path):
    parent = start.registry.load("sft/1")
    for name, marks, ref in (("p", PAIRS, "rlhf-dpo/1"), ("t", LONE, "rlhf-kto/1")):
        assert stage.run(CONFIG, start.registry, parent=parent, marks=write(tmp_path / name, marks)).ref == ref


@pytest.fixture
def served(start):
    """A registry with "production", and the settings of a round that takes moments."""
    config = preset("tiny")
    config = replace(config, feedback=CONFIG, deploy=replace(config.deploy, report_limit=1, prompts=9, target="fp32"))
    pipeline.deploy(config, start.registry, "tiny", "sft/1")
    write(start.registry.root / FILE_NAME, PAIRS)
    return start.registry, config


def test_what_was_learnt_is_served_when_no_skill_is_worse(served, capsys):
    registry, config = served
    version = pipeline.feedback(config, registry, "tiny")
    assert registry.aliases()["production"] == version.ref == "deploy/2"
    assert {"rlhf-dpo/1", "rlhf-pairs/1", "sft/1"} <= {one.ref for one in registry.lineage(version.ref)}
    assert version.manifest.config["target"] == "fp32", "stored like what it replaces"


def test_what_lost_a_skill_is_published_and_not_served_and_the_skill_is_named(served, monkeypatch, capsys):
    from lifecycle.deploy import gate
    from lifecycle.evaluation.card import ReportCard, Row

    registry, config = served

    def card(version, limit):  # a random model has no skill to lose: let the parent have one
        low, high = (0.0, 0.1) if version.ref == "deploy/2" else (0.8, 1.0)
        return ReportCard((Row(version.ref, "deploy", "arithmetic", high, low, high, 300, 0, 0.0),))

    monkeypatch.setattr(gate, "card", card)
    assert pipeline.feedback(config, registry, "tiny").ref == "deploy/2"
    assert registry.aliases()["production"] == "deploy/1"
    said = capsys.readouterr().out
    assert "production stays at deploy/1; deploy/2 is worse in: arithmetic 10% (deploy/2) against 100% (deploy/1)" in said


def test_the_command_starts_from_what_is_served(start, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    result = CliRunner().invoke(main, ["rlhf", "--preferences", "feedback"])
    assert result.exit_code == 2 and 'nothing is "production" yet' in result.stderr
    start.registry.set_alias("production", "sft/1")
    result = CliRunner().invoke(main, ["rlhf", "--preferences", "feedback"])
    assert result.exit_code == 2 and "feedback.sqlite does not exist" in result.stderr
    result = CliRunner().invoke(main, ["rlhf", "--preferences", "feedback", "--set", "stepps=3"])
    assert result.exit_code == 2 and 'Did you mean "steps"?' in result.stderr
