"""The report card: honest intervals, the same fields for every reader, and alarms only beyond noise."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.cli import main
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import ReportCard, Row, report, sets
from lifecycle.evaluation.card import regressions, setbacks
from lifecycle.evaluation.examination import Sample
from lifecycle.evaluation.statistics import wilson

FIELDS = ["version", "stage", "skill", "value", "low", "high", "n", "seed", "chance"]


def card(version: str, n: int = 100, **right: int) -> ReportCard:
    """A card with so many right answers of `n` by skill."""
    rows = [Row(version, "sft", skill, hits / n, *wilson(hits, n), n, 0, 0.1) for skill, hits in right.items()]
    return ReportCard(tuple(rows))


@pytest.mark.parametrize(
    "successes, n, low, high",
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_wilson_gives_the_known_intervals(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share_and_lies_in_0_to_1(counts):
    successes, n = counts
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))
    assert high - low > sum(
        abs(bound) * sign for bound, sign in zip(wilson(4 * successes, 4 * n), (-1, 1), strict=True)
    )


def test_without_tasks_nothing_is_known():
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_card_survives_json():
    one = card("sft/1", reading=50, sums=100)
    assert ReportCard.from_json(one.to_json()) == one
    assert [list(row) for row in json.loads(one.to_json())["rows"]] == [FIELDS, FIELDS]


def test_a_card_finds_its_rows_and_shows_them():
    both = ReportCard(
        (*card("sft/1", reading=50, needless_call=5).rows, *card("rlhf/1", reading=60, needless_call=0).rows)
    )
    assert both.versions() == ["sft/1", "rlhf/1"] and both.skills() == ["reading", "needless_call"]
    assert both.of("rlhf/1")["reading"].value == 0.6
    table = both.to_markdown().splitlines()
    assert table[0] == "| skill | sft/1 | rlhf/1 | chance |" and len(table) == 4
    assert "reading | 50% (40% to 60%) | 60%" in table[2] and "lower is better" in table[3]


@pytest.mark.parametrize(
    "new, old, lost",
    [
        ({"sums": 50}, {"sums": 50}, []),
        ({"sums": 45}, {"sums": 55}, []),  # worse, but within noise
        ({"sums": 20}, {"sums": 80}, ["sums"]),
        ({"sums": 80}, {"sums": 20}, []),
        ({"needless_call": 80}, {"needless_call": 20}, ["needless_call"]),  # lower is better
        ({"needless_call": 20}, {"needless_call": 80}, []),
        ({"sums": 0, "reading": 0}, {"sums": 100, "reading": 100}, ["reading", "sums"]),
        ({"sums": 0}, {"reading": 100}, []),  # only what both were asked
        ({"colour (blank)": 10}, {"colour (blank)": 40}, []),  # whoever guesses less from the question alone is no worse
    ],
)
def test_only_what_is_worse_beyond_noise_is_a_regression(new, old, lost):
    lines = regressions(card("sft/2", **new), card("sft/1", **old))
    assert [line.split()[0] for line in lines] == lost
    assert all("(sft/2) against" in line and line.endswith("(sft/1)") for line in lines)


def test_what_is_not_there_any_more_is_a_setback_and_no_regression():
    new, old = card("deploy/2", sums=50), card("deploy/1", sums=50, object=80, **{"object (blank)": 5})
    assert not regressions(new, old)
    assert setbacks(new, old) == ["object is not there any more (80% in deploy/1)"]
    assert setbacks(old, new) == []


def test_the_same_gap_is_noise_on_few_tasks_and_none_on_many():
    assert not regressions(card("b/1", n=20, sums=8), card("a/1", n=20, sums=12))
    assert regressions(card("b/1", n=2000, sums=800), card("a/1", n=2000, sums=1200))


def test_an_unknown_skill_names_the_near_miss():
    with pytest.raises(LifecycleError, match='unknown skill "readin".*Did you mean "reading"'):
        sets.skills(["readin"])
    with pytest.raises(LifecycleError, match="unknown skill"):
        sets.load("../secrets")
    assert sets.skills(None) == sets.skills([]) == list(sets.SKILLS)


def test_rows_have_exactly_their_fields_and_sound_numbers(start):
    versions = [start.model("sft", seed=seed) for seed in (0, 7)]
    rows = report(versions, limit=3).rows
    assert [(row.version, row.skill) for row in rows] == [(v.ref, skill) for v in versions for skill in sets.SKILLS]
    for row in rows:
        assert list(row.__dataclass_fields__) == FIELDS
        assert 0 <= row.low <= row.value <= row.high <= 1 and 0 <= row.chance <= 1
        assert row.n == 3 and row.stage == "sft"
    assert [row.seed for row in rows[:: len(sets.SKILLS)]] == [0, 7]


def test_the_command_prints_a_table_and_writes_its_rows(start, tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    start.model("sft")
    file, picture = tmp_path / "card.json", tmp_path / "card.png"
    words = [
        "report",
        "sft/1",
        "--json",
        str(file),
        "--plot",
        str(picture),
        "--limit",
        "3",
        "--samples",
        "1",
        "--skills",
        "sums, reading",
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert [row["skill"] for row in json.loads(file.read_text())["rows"]] == ["sums", "reading"]
    shown = ReportCard.from_json(file.read_text())
    assert shown.to_markdown() == result.stdout
    assert [sample.skill for sample in shown.samples] == ["sums", "reading"]
    assert all(list(sample.answers) == ["sft/1"] and sample.prompt in asked(sample.skill) for sample in shown.samples)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_a_reference_the_whole_way_to_production_is_scored(start, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    base = start.model("pretrain")
    marks = start.registry.publish("rlhf-thumbs", lambda target: (target / "thumbs.jsonl").write_text("{}\n"))
    codec = start.registry.publish("codec", lambda target: (target / "codec.json").write_text("{}\n"))
    tuned = start.registry.publish("sft", lambda target: copy_checkpoint(base.path, target), parents=[base, marks, codec])
    start.registry.set_alias("production", tuned.ref)
    result = CliRunner().invoke(main, ["report", "--limit", "1", "--skills", "sums"])
    assert result.stdout.startswith("| skill | pretrain/1 | sft/1 | chance |"), result.output


def test_the_command_asks_about_pictures_unless_skills_are_named(start, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    start.model("sft")
    asked = []
    monkeypatch.setattr("lifecycle.model.directory.sees", lambda path: True)
    monkeypatch.setattr("lifecycle.evaluation.card.seeing_rows", lambda version, limit, development: asked.append(version.ref) or [])
    for words in ([], ["--skills", "sums"]):
        assert CliRunner().invoke(main, ["report", "sft/1", "--limit", "1", *words]).exit_code == 0
    assert asked == ["sft/1"]


def asked(skill: str) -> list[str]:
    return ["\n".join(message["content"] for message in task["messages"]) for task in sets.load(skill)]


def test_an_answer_is_shown_and_not_obeyed():
    sample = Sample("sums", "1 | 2?", {"a/1": "<b>3</b> | 4\nfive"}, {"a/1": False})
    assert "| a/1 | - | &lt;b>3&lt;/b> \\| 4<br>five |" in sample.to_markdown()


def copy_checkpoint(source, target):
    for file in source.iterdir():
        if file.name not in ("manifest.json", "README.md"):
            (target / file.name).write_bytes(file.read_bytes())
