"""Which word is true of which part of a picture: how the tower learns what there is to see.

CLIP (arXiv 2103.00020) asks of a picture which of all the texts at hand belongs to it. Where a caption says only what is somewhere
in the picture, a tower has to find out what the words are about, and that takes most of its time. The visual world knows what it
has drawn where, so here each part is asked by itself (GLIP, 2112.03857), and the texts are all words of a topic: which name is it,
which colour, in which row. Words begin as the language model's own vectors of them, so that what a part is said to show is said in
a language that the language model reads already.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lifecycle.see.config import SeeConfig
from lifecycle.see.vision import MERGE, VisionTower, merge
from lifecycle.world.sights.grounded import NEAR, NOTHING, TOPICS, UNSAID

EMPTY = 0.15
"""Weight of a part that shows nothing."""
EMPTY_PATCH = 0.05
WEIGHTS = {"name": 0.5, "colour": 0.3, "column": 0.3, "row": 0.3, "count": 1.5, "size": 0.3}
WEIGHT_OF_SIGNS = 0.7
NEAR_WEIGHTS = {"name": 0.25, "sign": 0.5, "place": 0.5}


class TwoTowers(nn.Module):
    """A vision tower, and a table of words that meets it in one space."""

    def __init__(self, config: SeeConfig, words: Tensor) -> None:
        """words: what to begin with, [words of all topics, with "nothing" before each topic's; width], as `words_of` gives it."""
        super().__init__()
        self.vision = VisionTower(config)
        self.image_head = nn.Linear(MERGE**2 * config.hidden_size, words.shape[1], bias=False)
        self.embed_words, self.bias = nn.Parameter(words.clone()), nn.Parameter(torch.zeros(len(words)))
        self.near = nn.Linear(config.hidden_size, sum(len(some) + 1 for some in NEAR.values()))
        generator = torch.Generator().manual_seed(config.seed + 1)
        with torch.no_grad():
            for weight in (self.image_head.weight, self.near.weight):
                weight.normal_(0.0, weight.shape[1] ** -0.5, generator=generator)
            self.near.bias.zero_()

    def loss(self, pixels: Tensor, parts: Tensor, patches: Tensor) -> tuple[Tensor, float]:
        """How unlikely the right words are, in nats a picture, and for how many of the things the right name is the likeliest.

        pixels: [B, 3, 64, 64]. parts, patches: what is true of them, `about_parts` [B, TOKENS, topics] and `about_patches` [B, P, 3].
        """
        before, states = self.vision.states(pixels)
        said = self.image_head(merge(states)).float() @ self.embed_words.float().mT + self.bias
        total, accuracy = pixels.new_zeros(()), 0.0
        for number, (topic, logits) in enumerate(zip(TOPICS, said.split([len(some) + 1 for some in TOPICS.values()], -1), strict=True)):
            target = parts[..., number]
            total = total + WEIGHTS.get(topic, WEIGHT_OF_SIGNS) * _nats(logits, target, EMPTY)
            if topic == "name":
                shown = target > NOTHING
                accuracy = (logits.argmax(-1) == target)[shown].float().mean().item()
        seen = self.near(F.layer_norm(before, before.shape[-1:])).float()
        for number, (topic, logits) in enumerate(zip(NEAR, seen.split([len(some) + 1 for some in NEAR.values()], -1), strict=True)):
            total = total + NEAR_WEIGHTS[topic] * _nats(logits, patches[..., number], EMPTY_PATCH)
        return total, accuracy


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
