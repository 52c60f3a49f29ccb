"""The frozen sets of the visual world: `data/sights/<set>.jsonl` has a task a line, `data/sights/<set>.webp` their pictures.

The pictures are frozen with the questions, for no two versions of a font or of a rasteriser draw alike, and so that the set in
another style needs no font. All pictures of a set lie in one WebP without losses: a task's are side by side, from left to right and from top to
bottom. `data/sights/sha256.json` says what the files hold.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lifecycle.config import choose
from lifecycle.errors import LifecycleError
from lifecycle.world.sights.clips import LENGTH, Clip, clips
from lifecycle.world.sights.holdout import question_is_held_out
from lifecycle.world.sights.questions import SKILLS, VIDEO_SKILLS, Question
from lifecycle.world.sights.sampling import SPLITS, scenes
from lifecycle.world.sights.scene import Scene

DIRECTORY = Path(__file__).resolve().parents[2] / "data" / "sights"
SIZE = 64  # pixels of a side
PROBES = ("unseen", "other_style")
SETS = (*SKILLS, *VIDEO_SKILLS, *PROBES)
TASKS = dict.fromkeys(SETS, 200)
COLUMNS = {**dict.fromkeys(SETS, 25), **dict.fromkeys(VIDEO_SKILLS, LENGTH)}
DEVELOPMENT_SIZE, DEVELOPMENT_SEED = 100, 2027
HASHES = "sha256.json"
LOSSLESS = {"lossless": True, "exact": True, "quality": 100, "method": 6}


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One task: what is shown, what is asked, and what a caption would say."""

    pictures: np.ndarray
    """uint8 [frames, 64, 64, 3], RGB; one frame for a still picture, eight for a clip."""
    question: Question
    caption: str


def load(name: str, limit: int | None = None) -> list[Sight]:
    """The tasks of one of `SETS`, the first `limit` of them.

    Raises LifecycleError for an unknown set, and for a file that is missing or not what was committed.
    """
    choose("set", name, dict.fromkeys(SETS))
    expected = json.loads(_bytes(HASHES))
    for path in (f"{name}.jsonl", f"{name}.webp"):
        if hashlib.sha256(_bytes(path)).hexdigest() != expected[path]:
            raise LifecycleError(f"{DIRECTORY / path} is not what was committed: restore it with git checkout data/sights")
    rows = [json.loads(line) for line in _bytes(f"{name}.jsonl").decode().splitlines()]
    pictures = unfold(np.asarray(Image.open(DIRECTORY / f"{name}.webp").convert("RGB")))
    frames = LENGTH if name in VIDEO_SKILLS else 1
    pictures = pictures[: frames * len(rows)].reshape(len(rows), frames, SIZE, SIZE, 3)
    return [Sight(shown, _question(row["question"]), row["caption"]) for shown, row in zip(pictures, rows, strict=True)][:limit]


def draw(name: str, number: int, seed: int, without: Collection[tuple[str, str]] = ()) -> list[tuple[Scene | Clip, Question]]:
    """So many scenes or clips with one question each, as they are frozen: no question about the same twice.

    `without` are (caption, answer) pairs that are left out.
    """
    found: dict[tuple[str, str], tuple[Scene | Clip, Question]] = {}
    stream = _asked(name, seed)
    while len(found) < number:
        shown, question = next(stream)
        if (told := (shown.caption(), question.answer)) not in without:
            found.setdefault(told, (shown, question))
    return list(found.values())


def development(name: str, limit: int | None = None) -> list[Sight]:
    """`DEVELOPMENT_SIZE` other tasks with held-out combinations, or the first `limit`, drawn now; for choosing settings.

    Raises LifecycleError for an unknown set, and for "other_style" where Noto Color Emoji is missing.
    """
    frozen = {(sight.caption, sight.question.answer) for sight in load(name)}
    drawn = draw(name, DEVELOPMENT_SIZE, DEVELOPMENT_SEED, without=frozen)[:limit]
    return [Sight(pictures_of(shown), question, shown.caption()) for shown, question in drawn]


def freeze(directory: Path = DIRECTORY, tasks: dict[str, int] = TASKS, seed: int = 2026) -> list[Path]:
    """Write all sets and their hashes anew; needs Noto Color Emoji. The questions are the same everywhere, the pixels nearly."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in SETS:
        drawn = draw(name, tasks[name], seed)
        rows = [{"question": asdict(question), "caption": shown.caption()} for shown, question in drawn]
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        frames = [frame for shown, _ in drawn for frame in pictures_of(shown)]
        Image.fromarray(fold(frames, COLUMNS[name])).save(directory / f"{name}.webp", **LOSSLESS)
        written += [directory / f"{name}.jsonl", directory / f"{name}.webp"]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
    (directory / HASHES).write_text(json.dumps(hashes, indent=1) + "\n")
    return [*written, directory / HASHES]


def pictures_of(shown: Scene | Clip) -> np.ndarray:
    """uint8 [frames, 64, 64, 3] of either."""
    return shown.frames(SIZE) if isinstance(shown, Clip) else shown.render(SIZE)[None]


def fold(frames: Iterable[np.ndarray], columns: int) -> np.ndarray:
    """Frames [size, size, 3] as one picture of so many columns, from left to right and from top to bottom."""
    frames = list(frames)
    rows = -(-len(frames) // columns)
    blank = [np.zeros_like(frames[0])] * (rows * columns - len(frames))
    sheet = np.stack([*frames, *blank]).reshape(rows, columns, SIZE, SIZE, 3)
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * SIZE, columns * SIZE, 3)


def unfold(sheet: np.ndarray) -> np.ndarray:
    """The frames [number, size, size, 3] of such a picture, those that fill its last row up included."""
    rows, columns = sheet.shape[0] // SIZE, sheet.shape[1] // SIZE
    return sheet.reshape(rows, SIZE, columns, SIZE, 3).transpose(0, 2, 1, 3, 4).reshape(-1, SIZE, SIZE, 3)


def _asked(name: str, seed: int) -> Iterator[tuple[Scene | Clip, Question]]:
    """Of each scene or clip one question, drawn among those that fit the set."""
    rng = random.Random(f"asked {name} {seed}")
    for shown in _shown(name, seed):
        skill = name if name not in PROBES else shown.kind
        fit = [question for question in shown.questions() if question.skill == skill]
        if name in SKILLS:
            fit = [question for question in fit if question_is_held_out(question)]
        if fit:
            yield shown, rng.choice(fit)


def _shown(name: str, seed: int) -> Iterator[Scene | Clip]:
    if name in VIDEO_SKILLS:
        return clips(seed, "test", [name])
    if name not in PROBES:
        return scenes(seed, "test", [name])
    streams = [scenes(seed, name, [kind]) for kind in SPLITS[name]]  # as many of each kind
    return itertools.chain.from_iterable(zip(*streams, strict=True))


def _question(row: dict) -> Question:
    return Question(**{**row, "accepted": tuple(tuple(one) for one in row["accepted"])})


def _bytes(name: str) -> bytes:
    path = DIRECTORY / name
    if not path.is_file():
        raise LifecycleError(f"{path} is missing: restore it with git checkout data/sights")
    return path.read_bytes()
