"""What is looked at in each step: pictures and clips of the world, drawn when they are needed, and what is said about them.

A step's examples follow from the seed and the step's number alone, so a run that was interrupted goes on with what comes next.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lifecycle.model.decoder import IGNORE
from lifecycle.see.assembly import PICTURE
from lifecycle.see.config import SeeConfig
from lifecycle.see.untold import untold, ways_on
from lifecycle.see.vision import MERGE, PATCH, SIZE
from lifecycle.training.batches import Batch, Documents
from lifecycle.training.remembering import remembered
from lifecycle.world.sights import Clip, Scene, clips, scenes
from lifecycle.world.sights.grounded import about_parts, about_patches
from lifecycle.world.sights.questions import said_in

LONGEST_TEXT = 256
"""Tokens of a conversation without pictures; longer ones are cut."""
GROUNDED = ("object", "colour", "position", "relation", "anywhere", *["count"] * 5, *["digits"] * 2, *["signs"] * 5, *["crowd"] * 3)
"""Kinds of pictures for the tower, as often as they stand here."""
ASKED = ("object", "count", "count", "colour", "colour", "position", "relation", "relation")
"""The same, about which questions are asked, beside things anywhere and as many writings as `SeeConfig.written` says."""
ASK_FOR_CAPTION = "Describe the picture."
PIECES = re.compile(r"<[^<>]+>| ?\w+| ?[^\w\s<]+")
"""What a tokenizer cuts a text into before it looks for pairs."""
CAPTIONS, FOR_ITS_KIND = 0.1, 0.4
"""How often a picture is described, and how often a question is one of those for which the picture was composed."""


@dataclass(frozen=True)
class Looked:
    """Documents one after the other, sorted by length, and the pictures in them."""

    pictures: Tensor
    """uint8 [B, 64, 64, 3]."""
    tokens: Tensor
    """[N] int64."""
    targets: Tensor
    """What follows each token, [N] int64; `IGNORE` where it is not learnt."""
    lengths: Tensor
    """Tokens of each document, [documents] int64."""
    places: Tensor
    """Where the tokens of pictures stand, [M] int64."""
    shown: Tensor
    """Which of `pictures` stands there, one number for each TOKENS places, [M / TOKENS] int64."""
    untold: Tensor
    """Tokens that are not counted as wrong, [K, 2] int64: of which target, and which token."""

    @property
    def count(self) -> int:
        """Targets that count."""
        return int((self.targets != IGNORE).sum())


Turn = tuple[str, str, Sequence[str]]
"""A question, its answer, and other answers that are not counted as wrong."""


@dataclass(frozen=True)
class Document:
    """A conversation about pictures."""

    ids: list[int]
    learnt: list[int]
    """1 where one of `ids` is learnt, else 0."""
    shown: Sequence[int]
    """The pictures that are shown in it."""
    untold: list[tuple[int, int]]
    """Places in `ids`, and tokens that are not counted as wrong there."""


@dataclass(frozen=True)
class Writer:
    """Turns questions and answers into tokens as the chat template has it, for a tokenizer with Idefics3's names."""

    tokenizer: PreTrainedTokenizerBase

    def document(self, turns: Sequence[Turn], shown: Sequence[int], read: str = "") -> Document:
        """Questions with their answers, after the pictures that they are about. Where `read` ends an answer, it is written sign by sign: only
        so can be learnt to read what is in no dictionary."""
        ids: list[int] = []
        learnt: list[int] = []
        left_out: list[tuple[int, int]] = []
        before = PICTURE * len(shown)
        for question, answer, others in turns:
            asked = self._encode(("\n" if ids else "") + f"<|im_start|>user\n{before}{question}<|im_end|>\n<|im_start|>assistant\n")
            said = self._said(answer, read)
            start = len(ids) + len(asked)
            left_out += [(start + place, token) for place, token in ways_on(said, [self._instead(other, read) for other in others])]
            ids, learnt, before = [*ids, *asked, *said], [*learnt, *[0] * len(asked), *[1] * len(said)], ""
        return Document(ids, learnt, shown, left_out)

    def _instead(self, answer: str, read: str) -> list[int]:
        """What `_said` finds, piece by piece: there are hundreds of such answers in a step, all of the same few words."""
        return self._said(answer, read) if read else [token for piece in PIECES.findall(f"{answer}<|im_end|>") for token in self._encode(piece)]

    def _said(self, answer: str, read: str) -> list[int]:
        if not read:
            return self._encode(f"{answer}<|im_end|>")
        start, word = answer.removesuffix(".").rsplit(" ", 1)
        return [*self._encode(f"{start} "), *(token for sign in word for token in self._encode(sign)), *self._encode(".<|im_end|>")]

    @cached_property
    def image_id(self) -> int:
        return self.tokenizer.convert_tokens_to_ids("<image>")

    def _encode(self, text: str) -> list[int]:
        if text not in self._known:  # the same sentences come again and again
            self._known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self._known[text]

    @cached_property
    def _known(self) -> dict[str, list[int]]:
        return {}

    def collate(self, pictures: np.ndarray, documents: list[Document]) -> Looked:
        """Documents, the shortest first."""
        documents = sorted(documents, key=lambda document: len(document.ids))
        tokens, targets, left_out = [], [], []
        for one in documents:
            left_out += [(len(targets) + place - 1, token) for place, token in one.untold]
            tokens += one.ids[:-1]
            targets += [token if learn else IGNORE for token, learn in zip(one.ids[1:], one.learnt[1:], strict=True)]
        flat = torch.tensor(tokens)
        return Looked(
            torch.from_numpy(pictures),
            flat,
            torch.tensor(targets),
            torch.tensor([len(one.ids) - 1 for one in documents]),
            (flat == self.image_id).nonzero()[:, 0],
            torch.tensor([number for one in documents for number in one.shown], dtype=torch.int64),
            torch.tensor(left_out, dtype=torch.int64).view(-1, 2),
        )


@dataclass(frozen=True)
class Grounded:
    """Pictures, and which words are true of their parts."""

    pictures: Tensor
    """uint8 [B, 64, 64, 3]."""
    parts: Tensor
    """`about_parts` of what is one token for the language model, [B, TOKENS, topics] int64."""
    patches: Tensor
    """`about_patches` of what is one patch for the tower, [B, P, topics] int64."""


def grounded(config: SeeConfig, step: int) -> Grounded:
    """Step `step` of the contrastive phase."""
    shown = draw(config, "contrast", step, config.contrastive_batch, GROUNDED)
    side = SIZE // PATCH
    parts, patches = (np.stack([about(scene, n, SIZE) for scene in shown]) for about, n in ((about_parts, side // MERGE), (about_patches, side)))
    return Grounded(torch.from_numpy(np.stack([scene.render() for scene in shown])), torch.from_numpy(parts), torch.from_numpy(patches))


def draw(config: SeeConfig, phase: str, step: int, count: int, kinds: Sequence[str] | None = None, clips_of_them: int = 0) -> list[Scene | Clip]:
    """The pictures of these kinds (else those about which questions are asked) and the clips of one step of a phase."""
    seed = random.Random(f"see {phase} {config.seed} {step}").getrandbits(48)
    pictures = itertools.islice(scenes(seed, kinds=kinds or (*ASKED, *["digits"] * config.written, "anywhere")), count - clips_of_them)
    return [*pictures, *itertools.islice(clips(seed), clips_of_them)]


def captioned(config: SeeConfig, writer: Writer, step: int) -> Looked:
    """Step `step` of aligning: pictures and their captions."""
    shown = draw(config, "align", step, config.batch)
    pictures = np.stack([scene.render() for scene in shown])
    return writer.collate(pictures, [writer.document([(*_caption(scene), ())], [n], _written(scene)) for n, scene in enumerate(shown)])


def asked(config: SeeConfig, writer: Writer, texts: Documents | None, step: int) -> tuple[Looked, Batch | None]:
    """Step `step` of the last phase: questions about pictures and clips, and conversations without any."""
    rng = random.Random(f"see asked {config.seed} {step}")
    pictures: list[np.ndarray] = []
    documents: list[Document] = []
    for scene in draw(config, "tune", step, config.batch, clips_of_them=round(config.clips * config.batch)):
        if turns := _some(scene, config.questions, rng):
            frames, numbers = frames_of(scene)
            told = [(question, answer, untold(scene, answer)) for question, answer in turns]
            documents.append(writer.document(told, [len(pictures) + number for number in numbers], _written(scene)))
            pictures += frames
    wanted = sum(len(one.ids) for one in documents) * config.text / (1 - config.text)
    return writer.collate(np.stack(pictures), documents), remembered(texts, wanted, rng)


def frames_of(shown: Scene | Clip) -> tuple[list[np.ndarray], list[int]]:
    """Different pictures, uint8 [64, 64, 3] each, and the number of that which stands in each frame; most frames of most clips are alike."""
    if isinstance(shown, Scene):
        return [shown.render()], [0]
    pictures: list[np.ndarray] = []
    known: dict[bytes, int] = {}
    numbers = []
    for frame in shown.frames():
        numbers.append(known.setdefault(frame.tobytes(), len(pictures)))
        if numbers[-1] == len(pictures):
            pictures.append(frame)
    return pictures, numbers


def _some(shown: Scene | Clip, most: int, rng: random.Random) -> list[tuple[str, str]]:
    """At most so many questions with their answers: as many of each skill as of any other, though there are more of some, and now and then
    what there is, in one sentence. Nothing is asked that has been told by then, for that would be read and not looked for."""
    skills: dict[str, list[tuple[str, str]]] = {}
    for question in shown.questions():
        skills.setdefault(question.skill, []).append((question.text, question.answer))
    told = [_caption(shown)] if isinstance(shown, Scene) and rng.random() < CAPTIONS else []
    while skills and len(told) < most:
        skill = shown.kind if shown.kind in skills and rng.random() < FOR_ITS_KIND else rng.choice(list(skills))
        asked, answer = skills[skill].pop(rng.randrange(len(skills[skill])))
        if not any(is_told(skill, answer, turn) for turn in told):
            told.append((asked, answer))
        skills = {name: some for name, some in skills.items() if some}
    return told


def is_told(skill: str, answer: str, turn: tuple[str, str]) -> bool:
    """Whether a question and its answer say all that `answer` does; of which side something is, the question alone says half."""
    return set(said_in(answer)) <= set(said_in(" ".join(turn) if skill == "relation" else turn[1]))


def _caption(scene: Scene) -> tuple[str, str]:
    return ASK_FOR_CAPTION, scene.caption()


def _written(shown: Scene | Clip) -> str:
    """What can be read there."""
    return shown.items[0].word if isinstance(shown, Scene) and shown.items[0].kind == "writing" else ""
