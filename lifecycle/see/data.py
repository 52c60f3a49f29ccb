"""What is looked at in each step: pictures and clips of the world, drawn when they are needed, and what is said about them.

A step's examples follow from the seed and the step's number alone, so a run that was interrupted goes on with what comes next.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lifecycle.model.decoder import IGNORE
from lifecycle.see.assembly import PICTURE
from lifecycle.see.config import SeeConfig
from lifecycle.training.batches import Batch, Documents
from lifecycle.training.remembering import remembered
from lifecycle.world.sights import Clip, Scene, clips, scenes
from lifecycle.world.sights.facts import facts

LONGEST_TEXT = 256
"""Tokens of a conversation without pictures; longer ones are cut."""
LARGE = ("anywhere", "anywhere", "object", "digits")
"""Kinds of pictures with one or two things, and writing."""
ASK_FOR_CAPTION = "Describe the picture."


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

    @property
    def count(self) -> int:
        """Targets that count."""
        return int((self.targets != IGNORE).sum())


Document = tuple[list[int], list[int], Sequence[int]]
"""Token ids, 1 where one is learnt, and the pictures that are shown in it."""


@dataclass(frozen=True)
class Writer:
    """Turns questions and answers into tokens as the chat template has it, for a tokenizer with Idefics3's names."""

    tokenizer: PreTrainedTokenizerBase

    def document(self, question: str, answer: str, shown: Sequence[int]) -> Document:
        """One turn about pictures."""
        asked = self._encode("<|im_start|>user\n" + PICTURE * len(shown) + question + "<|im_end|>\n<|im_start|>assistant\n")
        said = self._encode(answer + "<|im_end|>")
        return asked + said, [0] * len(asked) + [1] * len(said), shown

    def captions(self, texts: Iterable[str]) -> list[list[int]]:
        """Each with a token that ends it."""
        ids = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return [[*text, self.tokenizer.bos_token_id] for text in ids]

    @cached_property
    def image_id(self) -> int:
        return self.tokenizer.convert_tokens_to_ids("<image>")

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def collate(self, pictures: np.ndarray, documents: list[Document]) -> Looked:
        """Documents, the shortest first."""
        documents = sorted(documents, key=lambda document: len(document[0]))
        tokens, targets = [], []
        for ids, learnt, _ in documents:
            tokens += ids[:-1]
            targets += [token if learn else IGNORE for token, learn in zip(ids[1:], learnt[1:], strict=True)]
        flat = torch.tensor(tokens)
        return Looked(
            torch.from_numpy(pictures),
            flat,
            torch.tensor(targets),
            torch.tensor([len(ids) - 1 for ids, _, _ in documents]),
            (flat == self.image_id).nonzero()[:, 0],
            torch.tensor([number for _, _, shown in documents for number in shown], dtype=torch.int64),
        )


@dataclass(frozen=True)
class Stated:
    """Pictures, and statements of which some are true of them."""

    pictures: Tensor
    """uint8 [B, 64, 64, 3]."""
    texts: list[list[int]]
    """Token ids of F different statements."""
    true: Tensor
    """[B, F] bool."""


def stated(config: SeeConfig, writer: Writer, step: int) -> Stated:
    """Step `step` of the contrastive phase: of each picture at most `config.facts` true and as many false statements."""
    rng = random.Random(f"see stated {config.seed} {step}")
    early = step * config.contrastive_batch < config.first * config.contrastive_pictures
    shown = draw(config, "contrast", step, config.contrastive_batch, kinds=LARGE if early else None)
    known = [facts(scene, rng) for scene in shown]
    texts = list(dict.fromkeys(text for both in known for some in both for text in rng.sample(some, min(config.facts, len(some)))))
    true = torch.tensor([[text in told for text in texts] for told, _ in ((set(true), false) for true, false in known)])
    return Stated(torch.from_numpy(np.stack([scene.render() for scene in shown])), writer.captions(texts), true)


def share_found(odds: Tensor, true: Tensor) -> float:
    """Of the pictures, for how many the likeliest statement is true."""
    return true.gather(1, odds.argmax(1, keepdim=True)).float().mean().item()


def draw(
    config: SeeConfig, phase: str, step: int, count: int, clips_of_them: int = 0, kinds: Sequence[str] | None = None
) -> list[Scene | Clip]:
    """The pictures and clips of one step of a phase; the pictures of these kinds, or of all."""
    seed = random.Random(f"see {phase} {config.seed} {step}").getrandbits(48)
    pictures = itertools.islice(scenes(seed, kinds=kinds), count - clips_of_them)
    return [*pictures, *itertools.islice(clips(seed), clips_of_them)]


def frames_of(shown: Scene | Clip) -> np.ndarray:
    """uint8 [frames, 64, 64, 3]: one of a picture, eight of a clip."""
    return shown.frames() if isinstance(shown, Clip) else shown.render()[None]


def captioned(config: SeeConfig, writer: Writer, step: int) -> Looked:
    """Step `step` of aligning: pictures and their captions."""
    shown = draw(config, "align", step, config.batch)
    pictures = np.stack([scene.render() for scene in shown])
    return writer.collate(pictures, [writer.document(ASK_FOR_CAPTION, scene.caption(), [n]) for n, scene in enumerate(shown)])


def asked(config: SeeConfig, writer: Writer, texts: Documents | None, step: int) -> tuple[Looked, Batch | None]:
    """Step `step` of the last phase: questions about pictures and clips, and conversations without any."""
    rng = random.Random(f"see asked {config.seed} {step}")
    pictures: list[np.ndarray] = []
    documents: list[Document] = []
    for scene in draw(config, "tune", step, config.batch, round(config.clips * config.batch)):
        frames = frames_of(scene)
        shown = range(len(pictures), len(pictures) + len(frames))
        pictures += list(frames)
        for text, answer in _some(scene, config.questions if len(frames) == 1 else 1, rng):
            documents.append(writer.document(text, answer, shown))
    wanted = sum(len(ids) for ids, _, _ in documents) * config.text / (1 - config.text)
    return writer.collate(np.stack(pictures), documents), remembered(texts, wanted, rng)


def _some(shown: Scene | Clip, most: int, rng: random.Random) -> list[tuple[str, str]]:
    """Questions with their answers. One of several is what there is: most of the others name it, and so do not teach its looks."""
    questions = shown.questions()
    if most == 1:
        return [(question.text, question.answer) for question in rng.sample(questions, min(1, len(questions)))]
    naming = [question for question in questions if question.skill in ("object", "digits")]
    rest = [question for question in questions if question not in naming]
    first = (naming[0].text, naming[0].answer) if naming and rng.random() < 0.6 else (ASK_FOR_CAPTION, shown.caption())
    return [first, *((question.text, question.answer) for question in rng.sample(rest, min(most - 1, len(rest))))]
