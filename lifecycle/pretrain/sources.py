"""Where documents come from when they do not come from the world, or not only: text files, the hub, mixtures.

Every source gives the same three things: training documents, validation documents (both a `datasets.Dataset` with a
column "text") and the `DataRef` that names them in the lineage.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, IterableDataset, concatenate_datasets, load_dataset

from lifecycle.errors import LifecycleError
from lifecycle.model.tokenizer import END_OF_TEXT
from lifecycle.registry import DataRef

Corpus = tuple[Dataset, Dataset, DataRef]

SECTION_CHARACTERS = 4000
"""Texts without document marks are cut at paragraphs into documents of about this size."""
HELD_OUT_EVERY = 20
"""Every so many-th document is kept for validation."""


def text_files(path: str | Path) -> Corpus:
    """The documents of one .txt file, or of all .txt files below a directory, in the order of their names.

    Documents end at `<|endoftext|>` or with the file; long ones are cut at paragraphs.
    Raises LifecycleError naming the file that is missing, empty or not UTF-8 text.
    """
    path = Path(path)
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise LifecycleError(f"{path} holds no .txt file: give a text file or a directory with some")
    digest = hashlib.sha256()
    documents: list[str] = []
    for file in files:
        text = _read(file)
        digest.update(text.encode() + b"\0")  # a document ends with its file
        documents += [section for document in text.split(END_OF_TEXT) for section in _sections(document.strip())]
    reference = DataRef(f"text:{path.name}", digest.hexdigest(), {"files": len(files), "documents": len(documents)})
    return *_split(Dataset.from_dict({"text": documents}), str(path)), reference


def hub(name: str, subset: str | None = None, *, characters: int) -> Corpus:
    """The beginning of a hub data set's training split, streamed: documents until there are `characters` characters.

    What was taken is kept in the datasets library's cache, so the next run of the same command downloads nothing.
    Raises LifecycleError when the data set cannot be opened or has no column "text".
    """
    try:
        rows = load_dataset(name, subset, split="train", streaming=True)
        columns = list(next(iter(rows), {}))
    except Exception as error:  # the hub's clients raise dozens of unrelated classes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LifecycleError(
            f'cannot open the hub data set "{name}": {reason}. Is there a network, and is HF_HUB_OFFLINE unset?'
        ) from error
    if "text" not in columns:
        raise LifecycleError(
            f'the hub data set "{name}" has no column "text", only {", ".join(columns)}: choose another one'
        )
    documents = Dataset.from_generator(_beginning, gen_kwargs={"rows": rows, "characters": characters})
    train, held_out = _split(documents, name)
    digest = hashlib.sha256()
    for batch in documents.iter(1000):
        for text in batch["text"]:
            digest.update(text.encode() + b"\0")
    identity = f"hf:{name}:{subset}" if subset else f"hf:{name}"
    return (
        train,
        held_out,
        DataRef(identity, digest.hexdigest(), {"documents": len(documents), "characters": characters}),
    )


def mixed(main: Corpus, added: Corpus, percent: float) -> Corpus:
    """All of `main` in its own order, and spread evenly between it the beginning of `added`: `percent` of all characters.

    Validation documents are mixed in the same way, as far as `added` has kept some back. Raises LifecycleError when it has not
    enough text to train on.
    """
    if not 0 < percent < 100:
        raise LifecycleError(f"a mixture of {percent:g}% is none: give more than 0 and less than 100 percent")
    one, other = main[2], added[2]
    count, missing = _beginning_of(added[0], _share(main[0], percent))
    if missing > 0:
        raise LifecycleError(
            f"{other.id} is {missing:,} characters too short to be {percent:g}% of the mixture: give more text, or mix in less"
        )
    train = _spread(main[0], added[0].select(range(count)))
    validation = _spread(main[1], added[1].select(range(_beginning_of(added[1], _share(main[1], percent))[0])))
    digest = hashlib.sha256(f"{one.hash} {other.hash} {percent:g}".encode()).hexdigest()
    return train, validation, DataRef(f"{one.id} with {percent:g}% {other.id}", digest, {"mixed": [one.hash, other.hash]})


def _share(main: Dataset, percent: float) -> int:
    """Characters that have to be added to `main` to be `percent` of both."""
    return math.ceil(sum(map(len, main["text"])) * percent / (100 - percent))


def _beginning_of(documents: Dataset, characters: int) -> tuple[int, int]:
    """How many documents have so many characters, or all of them; and how many characters are missing then."""
    count = 0
    for text in documents["text"]:
        if characters <= 0:
            break
        count, characters = count + 1, characters - len(text)
    return count, characters


def _spread(main: Dataset, added: Dataset) -> Dataset:
    """All documents of both, each in its own order, those of `added` evenly between those of `main`."""
    places = [((number + 0.5) / len(main), number) for number in range(len(main))]
    places += [((number + 0.5) / len(added), len(main) + number) for number in range(len(added))]
    both = concatenate_datasets([main, added])  # a column that one of them has not got is empty there
    return both.select([number for _, number in sorted(places)])


def _beginning(rows: IterableDataset, characters: int) -> Iterator[dict[str, str]]:
    for row in rows:
        yield {"text": row["text"]}
        characters -= len(row["text"])
        if characters <= 0:
            return


def _read(file: Path) -> str:
    if not file.is_file():
        raise LifecycleError(f"{file} does not exist: give a .txt file or a directory of them")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LifecycleError(f"{file} is not UTF-8 text (byte {error.start}): convert it, or take it out") from None
    if "\0" in text:
        raise LifecycleError(f"{file} is binary, not text: take it out")
    if not text.strip():
        raise LifecycleError(f"{file} is empty: take it out or fill it")
    return text


def _sections(document: str) -> Iterator[str]:
    """A document in paragraphs' worth of pieces; a paragraph is never cut."""
    section: list[str] = []
    size = 0
    for paragraph in document.split("\n\n"):
        if size and size + len(paragraph) > SECTION_CHARACTERS:
            yield "\n\n".join(section)
            section, size = [], 0
        section.append(paragraph)
        size += len(paragraph)
    if size:
        yield "\n\n".join(section)


def _split(documents: Dataset, where: str) -> tuple[Dataset, Dataset]:
    """Most for training, some to validate on, both in order and spread over everything."""
    if len(documents) < 2:
        raise LifecycleError(f"{where} is one short document: at least two are needed, one of them to validate on")
    held_out = range(1, len(documents), HELD_OUT_EVERY)
    return documents.select([index for index in range(len(documents)) if index not in held_out]), documents.select(
        held_out
    )
