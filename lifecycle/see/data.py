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
from lifecycle.see.untold import Other, others, said, ways_on
from lifecycle.see.vision import MERGE, PATCH, SIZE
from lifecycle.training.batches import Batch, Documents
from lifecycle.training.remembering import remembered
from lifecycle.world.sights import Clip, Scene, clips, scenes
from lifecycle.world.sights.grounded import about_parts, about_patches

LONGEST_TEXT = 256
"""Tokens of a conversation without pictures; longer ones are cut."""
GROUNDED = ("object", "colour", "position", "relation", "anywhere", "anywhere", *["count"] * 3, *["digits"] * 4, *["crowd"] * 4)
"""Kinds of pictures for the tower, as often as they stand here."""
ASKED = tuple(kind for kind, often in {"object": 2, "count": 4, "colour": 3, "position": 2, "relation": 2, "digits": 3, "crowd": 2}.items() for _ in range(often))
"""The same, about which questions are asked."""
SPARSE = 0.25
"""Part of the pictures with next to nothing in them that are asked about. Of many things some are where they never are in training, so
training has few of many; but where there is only one, nobody has to look for it."""
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


Turn = tuple[str, str, Sequence[Other]]
"""A question, its answer, and what could be said in its place; what is held out is not counted as wrong."""


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
        for question, answer, instead in turns:
            asked = self._encode(("\n" if ids else "") + f"<|im_start|>user\n{before}{question}<|im_end|>\n<|im_start|>assistant\n")
            said = self._said(answer, read)
            start = len(ids) + len(asked)
            never, could = (ways_on(said, [self._instead(other, read) for other, told in instead if told == held_out]) for held_out in (True, False))
            left_out += [(start + place, token) for place, token in never if (place, token) not in could]
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
    """`about_patches` of what is one patch for the tower, [B, P, 3] int64."""


def grounded(config: SeeConfig, step: int) -> Grounded:
    """Step `step` of the contrastive phase."""
    shown = draw(config, "contrast", step, config.contrastive_batch, GROUNDED, sparse=1.0)
    side = SIZE // PATCH
    parts, patches = (np.stack([about(scene, n, SIZE) for scene in shown]) for about, n in ((about_parts, side // MERGE), (about_patches, side)))
    return Grounded(torch.from_numpy(np.stack([scene.render() for scene in shown])), torch.from_numpy(parts), torch.from_numpy(patches))


def draw(
    config: SeeConfig, phase: str, step: int, count: int, kinds: Sequence[str] = ASKED, clips_of_them: int = 0, sparse: float = SPARSE
) -> list[Scene | Clip]:
    """The pictures of these kinds and the clips of one step of a phase; of those with next to nothing in them `sparse`."""
    seed = random.Random(f"see {phase} {config.seed} {step}").getrandbits(48)
    rng = random.Random(f"sparse {seed}")
    kept = [(one for one in stream if not is_sparse(one) or rng.random() < sparse) for stream in (scenes(seed, kinds=kinds), clips(seed))]
    return [one for stream, number in zip(kept, (count - clips_of_them, clips_of_them), strict=True) for one in itertools.islice(stream, number)]


def is_sparse(shown: Scene | Clip) -> bool:
    """Whether there is no more to see than its kind has to have, and so nothing to be told apart."""
    if isinstance(shown, Clip):
        number = len({actor.item.word for actor in shown.actors})
        return number == 1 if shown.kind == "video_direction" else number == len(shown.actors)
    if shown.items[0].kind == "writing":
        return len(shown.items[0].word) == 1
    number = len({item.word for item in shown.items})
    return number <= (2 if shown.kind == "relation" else 1)


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
            told = [(question, said(answer, thought), others(scene, answer, thought)) for question, answer, thought in turns]
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


def _some(shown: Scene | Clip, most: int, rng: random.Random) -> list[tuple[str, str, str]]:
    """At most so many questions with their answers and what is thought before these: as many of each skill as of any other, though there are more of some; and now and then,
    last, so that nothing can be read off it, what there is, in one sentence."""
    skills: dict[str, list[tuple[str, str, str]]] = {}
    for question in shown.questions():
        skills.setdefault(question.skill, []).append((question.text, question.answer, question.thought))
    last = [(*_caption(shown), "")] if isinstance(shown, Scene) and rng.random() < CAPTIONS else []
    told: list[tuple[str, str, str]] = []
    while skills and len(told) + len(last) < most:
        skill = shown.kind if shown.kind in skills and rng.random() < FOR_ITS_KIND else rng.choice(list(skills))
        told.append(skills[skill].pop(rng.randrange(len(skills[skill]))))
        skills = {name: some for name, some in skills.items() if some}
    return told + last


def _caption(scene: Scene) -> tuple[str, str]:
    return ASK_FOR_CAPTION, scene.caption()


def _written(shown: Scene | Clip) -> str:
    """What can be read there."""
    return shown.items[0].word if isinstance(shown, Scene) and shown.items[0].kind == "writing" else ""
