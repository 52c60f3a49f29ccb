"""Text files become documents; a file that is none is named."""

import json

import pytest
from click.testing import CliRunner

from lifecycle.cli import main
from lifecycle.errors import LifecycleError
from lifecycle.pretrain.commands import mixture
from lifecycle.pretrain.config import PRESETS
from lifecycle.pretrain.sources import SECTION_CHARACTERS, hub, mixed, text_files
from lifecycle.world.config import PRESETS as WORLDS
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import pretraining_corpus


def test_a_directory_is_read_in_order_and_some_is_held_out(tmp_path):
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text(f"story {number}\n")
    (tmp_path / "notes.md").write_text("not read")
    train, validation, data = text_files(tmp_path)
    assert list(validation["text"]) == ["story 1", "story 21"]
    assert list(train["text"]) == [f"story {number}" for number in range(30) if number not in (1, 21)]
    assert data.detail["documents"] == 30
    (tmp_path / "07.txt").write_text("another")
    assert text_files(tmp_path)[2].hash != data.hash


def test_where_files_end_is_a_part_of_what_they_say(tmp_path):
    hashes = set()
    for number, texts in enumerate((["one two"], ["one ", "two"], ["one", " two"])):
        (place := tmp_path / str(number) / "books").mkdir(parents=True)
        for at, text in enumerate(texts):
            (place / f"{at}.txt").write_text(text)
        (place / "last.txt").write_text("more\n<|endoftext|>\nand more")
        hashes.add(text_files(place)[2].hash)
    assert len(hashes) == 3


def test_one_file_is_cut_at_document_marks_and_at_paragraphs(tmp_path):
    file = tmp_path / "book.txt"
    paragraphs = [f"{number} " + "word " * 100 for number in range(40)]
    file.write_text("first\n<|endoftext|>\nsecond<|endoftext|>" + "\n\n".join(paragraphs))
    train, validation, _ = text_files(file)
    documents = sorted([*train["text"], *validation["text"]], key=len)
    assert documents[:2] == ["first", "second"]
    assert all(len(document) <= SECTION_CHARACTERS + 100 for document in documents)
    assert sum(document.count("word") for document in documents) == 4000


@pytest.mark.parametrize(
    ("content", "message"),
    [(b" \n", "is empty"), (b"ab\0cd", "is binary"), (b"\xff\xfe\xfa", "is not UTF-8"), (b"short", "at least two")],
)
def test_a_file_that_is_no_text_is_named(tmp_path, content, message):
    file = tmp_path / "odd.txt"
    file.write_bytes(content)
    with pytest.raises(LifecycleError, match=f"odd.txt {message}|odd.txt is one short document: {message}"):
        text_files(file)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(LifecycleError, match="does not exist"):
        text_files(tmp_path / "none.txt")
    with pytest.raises(LifecycleError, match="holds no .txt"):
        text_files(tmp_path)


def test_a_data_set_is_taken_from_its_beginning(tmp_path, monkeypatch):
    """A directory opens through the same door as a hub data set, without a network."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "stories"
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({"text": f"story {number:03}"}) + "\n" for number in range(100))
    )
    train, validation, data = hub(str(folder), characters=9 * 30)
    assert sorted([*train["text"], *validation["text"]]) == [f"story {number:03}" for number in range(30)]
    assert list(validation["text"]) == ["story 001", "story 021"]
    assert hub(str(folder), characters=9 * 30)[2] == data
    assert hub(str(folder), characters=9 * 40)[2].hash != data.hash


def test_a_data_set_without_text_is_named(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"story": "once"}\n')
    with pytest.raises(LifecycleError, match='has no column "text", only story'):
        hub(str(tmp_path), characters=10)


def test_without_a_hub_the_error_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LifecycleError, match='cannot open the hub data set "nobody/nothing"') as caught:
        hub("nobody/nothing", characters=10)
    assert "\n" not in str(caught.value)


def test_the_command_trains_on_a_text_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(tmp_path / "registry"))
    book = tmp_path / "book.txt"
    book.write_text("<|endoftext|>".join(f"Ann has {number} pears. Bob has none." for number in range(80)))
    shape = "hidden_size=32 num_layers=2 num_heads=4 intermediate_size=32 context_length=32 vocab_size=290"
    changes = [f"model.{word}" for word in shape.split()] + [
        "tokens=1000",
        "batch_tokens=256",
        "sample_every=0",
        "dtype=fp32",
    ]
    arguments = ["pretrain", "--data", str(book), *(word for change in changes for word in ("--set", change))]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert "pretrain/1: " in first.output
    assert "pretrain/1: " in CliRunner().invoke(main, arguments).output
    missing = CliRunner().invoke(main, ["pretrain", "--data", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "does not exist" in missing.output


@pytest.fixture
def book(tmp_path):
    """A real text of 200 documents."""
    file = tmp_path / "book.txt"
    file.write_text("<|endoftext|>".join(f"chapter {number} " + "and so on " * 40 for number in range(200)))
    return file


@pytest.mark.parametrize("percent", [5, 40])
def test_a_mixture_keeps_the_worlds_order_and_spreads_the_real_text_over_it(book, percent):
    world = pretraining_corpus(WorldConfig(documents=100))
    train, validation, data = mixed(world, text_files(book), percent)
    real = [text.startswith("chapter") for text in train["text"]]
    assert [text for text, added in zip(train["text"], real, strict=True) if not added] == list(world[0]["text"])
    share = sum(len(text) for text, added in zip(train["text"], real, strict=True) if added) / sum(map(len, train["text"]))
    assert percent / 100 <= share < percent / 100 + 0.03
    assert any(text.startswith("chapter") for text in validation["text"])
    assert 0.3 < sum(real[: len(real) // 2]) / sum(real) < 0.7
    assert data.hash not in (world[2].hash, mixed(world, text_files(book), percent + 1)[2].hash)
    assert data.id == f"{world[2].id} with {percent}% text:book.txt"


def test_too_little_real_text_is_said(book):
    with pytest.raises(LifecycleError, match="text:book.txt is .* characters too short to be 99% of the mixture"):
        mixed(pretraining_corpus(WorldConfig(documents=100)), text_files(book), 99)


def test_the_command_reads_a_mixture(book, monkeypatch):
    monkeypatch.setitem(WORLDS, "tiny", WorldConfig(documents=20))
    train, _, data = mixture("world", f"10:{book}", "tiny", PRESETS["tiny"])
    assert len(train) > 20 and "with 10%" in data.id


@pytest.mark.parametrize("mix", ["10", "ten:book.txt", "0:book.txt", "100:book.txt", "nan:book.txt", "10:"])
def test_a_mixture_that_cannot_be_read_says_what_to_type(mix):
    result = CliRunner().invoke(main, ["pretrain", "--mix", mix])
    assert result.exit_code == 2 and "--mix 20:books/" in result.output
