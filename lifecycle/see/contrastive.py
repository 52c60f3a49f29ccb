"""Which word is true of which part of a picture: how the tower learns what there is to see.

CLIP (arXiv 2103.00020) asks of a picture which of all the texts at hand belongs to it. Where a caption says only what is somewhere
in the picture, a tower has to find out what the words are about, and that takes most of its time. The visual world knows what it
has drawn where, so here each part is asked by itself (GLIP, 2112.03857), and the texts are all words of a topic: which name is it,
which colour, in which row. Words begin as the language model's own vectors of them, so that what a part is said to show is said in
a language that the language model reads already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lifecycle.see.config import SeeConfig
from lifecycle.see.vision import MERGE, PATCH, SIZE, VisionTower, merge
from lifecycle.world.sights import words
from lifecycle.world.sights.grounded import NEAR, NOTHING, TOPICS, UNSAID
from lifecycle.world.sights.holdout import colour_is_held_out, count_is_held_out, place_is_held_out

EMPTY = 0.15
"""Weight of a part that shows nothing, and of a colour that a drawing does not have."""
EMPTY_PATCH = {"name": 0.05, "sign": 0.05, "place": 0.05, "centre": 0.5, "number": 0.0}
"""The same of a patch; there is always a number."""
WEIGHTS = {"name": 0.5, "colour": 0.3, "column": 0.3, "row": 0.3, "count": 1.5, "size": 0.3}
WEIGHT_OF_SIGNS = 0.7
NEAR_WEIGHTS = {"name": 0.25, "sign": 0.5, "place": 0.5, "centre": 0.5, "number": 0.05}
HALFWAY = "centre"
"""Of what a patch says, what is asked halfway up the tower, so that later blocks can count."""
NEVER = -1e4
"""The logit of what is left out of a choice."""


class TwoTowers(nn.Module):
    """A vision tower, and a table of words that meets it in one space."""

    def __init__(self, config: SeeConfig, words: Tensor) -> None:
        """words: what to begin with, [words of all topics, with "nothing" before each topic's; width], as `words_of` gives it."""
        super().__init__()
        self.vision = VisionTower(config)
        self.image_head = nn.Linear(MERGE**2 * config.hidden_size, words.shape[1], bias=False)
        self.embed_words, self.bias = nn.Parameter(words.clone()), nn.Parameter(torch.zeros(len(words)))
        self.near = nn.ModuleDict({topic: nn.Linear(config.hidden_size, len(some) + 1) for topic, some in NEAR.items()})
        generator = torch.Generator().manual_seed(config.seed + 1)
        with torch.no_grad():
            for layer in (self.image_head, *self.near.values()):
                layer.weight.normal_(0.0, layer.weight.shape[1] ** -0.5, generator=generator)
            for layer in self.near.values():
                layer.bias.zero_()

    def loss(self, pixels: Tensor, parts: Tensor, patches: Tensor) -> tuple[Tensor, float]:
        """How unlikely the right words are, in nats a picture, and for how many of the things the right name is the likeliest.

        pixels: [B, 3, 64, 64]. parts, patches: what is true of them, `about_parts` [B, TOKENS, topics] and `about_patches` [B, P, topics of `NEAR`].
        """
        halfway, before, states = self.vision.states(pixels)
        left_out = {topic: held_out_of(topic, parts) for topic in TOPICS}
        total, accuracy = self._of_parts(self.image_head(merge(states)).float() @ self.embed_words.float().mT + self.bias, parts, left_out)
        halfway, before = (F.layer_norm(state, state.shape[-1:]) for state in (halfway, before))
        for number, (topic, head) in enumerate(self.near.items()):
            logits, target = head(halfway if topic == HALFWAY else before).float(), patches[..., number]
            if topic == "name":
                never = left_out["name"].repeat_interleave(MERGE, 1)  # of a part's patches, first along a row of parts
                never = never.unflatten(1, (-1, SIZE // PATCH)).repeat_interleave(MERGE, 1).flatten(1, 2)
                logits = logits.masked_fill(never.scatter(-1, target.clamp(min=NOTHING)[..., None], False), NEVER)
            total = total + NEAR_WEIGHTS[topic] * _nats(logits, target, EMPTY_PATCH[topic])
        return total, accuracy

    def _of_parts(self, logits: Tensor, parts: Tensor, left_out: dict[str, Tensor | None]) -> tuple[Tensor, float]:
        """How unlikely the right words are, in nats a picture, and the share of things of which the right name is the likeliest."""
        total, accuracy = logits.new_zeros(()), 0.0
        for number, (topic, some) in enumerate(zip(TOPICS, logits.split([len(some) + 1 for some in TOPICS.values()], -1), strict=True)):
            target = parts[..., number]
            if (never := left_out[topic]) is not None:
                some = some.masked_fill(never, NEVER)
            total = total + WEIGHTS.get(topic, WEIGHT_OF_SIGNS) * _nats(some, target, EMPTY)
            if topic == "name":
                shown = target > NOTHING
                accuracy = (some.argmax(-1) == target)[shown].float().mean().item()
        return total, accuracy


def held_out_of(topic: str, parts: Tensor) -> Tensor | None:
    """Which words of a topic would tell of a part what is held out: names that are never there or of that colour, colours and numbers that a name never has.

    They are left out of the choice, for what is never shown would be learnt to be wrong (as in `lifecycle.see.untold`).
    parts: `about_parts`, [..., topics]. A mask [..., words of the topic and "nothing"], False for what is true; None for other topics.
    """
    if topic not in ("name", "colour", "count"):
        return None
    name, colour, column, row, true = (parts[..., list(TOPICS).index(of)] for of in ("name", "colour", "column", "row", topic))
    tables = _held_out(parts.device)
    if topic == "name":
        place = torch.where((column > NOTHING) & (row > NOTHING), 3 * row + column - 3, NOTHING)
        never = tables["place"][place] | tables["colour"].mT[colour.clamp(min=NOTHING)]
    else:
        never = tables[topic][name.clamp(min=NOTHING)]
    return never & (torch.arange(never.shape[-1], device=parts.device) != true[..., None])


@cache
def _held_out(device: torch.device) -> dict[str, Tensor]:
    """Names that are never in a place, [places + 1, names + 1]; colours and counts that a name never has, [names + 1, words + 1]; first for none."""

    def table(rows: Sequence[str], topic: str, held_out: Callable[[str, str], bool]) -> Tensor:
        some = TOPICS[topic]
        return torch.tensor([[False] * (len(some) + 1), *([False, *(held_out(row, word) for word in some)] for row in rows)], device=device)

    names = TOPICS["name"]
    drawn = (*words.SEEN, *words.SHAPES)
    return {
        "place": table(tuple(words.PLACES), "name", lambda place, name: name in drawn and place_is_held_out(name, place)),
        "colour": table(names, "colour", lambda name, colour: name in words.SHAPES and colour_is_held_out(name, colour)),
        "count": table(names, "count", lambda name, count: name in drawn and count_is_held_out(name, words.COUNTS.index(count) + 1)),
    }


def _nats(logits: Tensor, target: Tensor, empty: float) -> Tensor:
    """Summed over squares, those that show nothing weighing less; mean over pictures."""
    nats = F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=UNSAID, reduction="none")
    weight = torch.where(target.flatten() == NOTHING, empty, 1.0)
    return (nats * weight).sum() / len(target)


@torch.no_grad()
def words_of(embeddings: Tensor, encode: Callable[[str], list[int]], fading: float = 1.0) -> Tensor:
    """Of every word of every topic the sum of its tokens' embeddings, at length 1; zero for "nothing", which comes before each topic's.

    encode: a text's token ids. Each token of a word counts `fading` times as much as the one before it. Signs are turned by their place
    in the word, so that a part may show two.
    """
    rows = []
    for topic, some in TOPICS.items():
        place = int(topic.removeprefix("sign ")) if topic.startswith("sign") else 0
        rows.append(torch.zeros(embeddings.shape[1]))
        for word in some:
            tokens = embeddings[encode(word if place else f" {word}")]
            vector = (fading ** torch.arange(len(tokens)) @ tokens).roll(max(0, place - 1) if fading < 1 else 0)
            rows.append(F.normalize(vector, dim=0))
    return torch.stack(rows)
