"""`lifecycle world --kind pictures|clips`: samples as files that open, with what is said about them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lifecycle.world.commands import world
from lifecycle.world.sights import clips, scenes
from lifecycle.world.sights.films import decode


def run(*arguments: str):
    return CliRunner().invoke(world, list(arguments))


@pytest.mark.parametrize(("kind", "stream"), [("pictures", scenes), ("clips", clips)])
def test_samples_are_what_the_seed_draws(tmp_path, kind, stream):
    result = run("--kind", kind, "--count", "3", "--seed", "5", "--to", str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    assert {str(path) for path in (tmp_path / "new").iterdir()} == set(result.output.split())
    rows = [json.loads(line) for line in (tmp_path / "new" / "samples.jsonl").read_text().splitlines()]
    for number, (row, one) in enumerate(zip(rows, stream(5), strict=False)):
        assert row["caption"] == one.caption()
        assert [question["text"] for question in row["questions"]] == [question.text for question in one.questions()]
        stem = tmp_path / "new" / f"{number:04}"
        if kind == "pictures":
            assert np.array_equal(np.asarray(Image.open(stem.with_suffix(".png"))), one.render())
        else:
            assert {len(decode(stem.with_suffix(end).read_bytes())) for end in (".mp4", ".webm", ".gif")} == {8}
    assert Image.open(tmp_path / "new" / "sheet.png").width == 8 * 128


def test_it_says_where_to_write_and_what_splits_there_are(tmp_path):
    assert "--to DIRECTORY" in str(run("--kind", "pictures").exception)
    assert "other_style" in str(run("--kind", "pictures", "--split", "tset", "--to", str(tmp_path)).exception)
    assert "documents" in str(run("--kind", "clips", "--card", "--to", str(tmp_path)).exception)
