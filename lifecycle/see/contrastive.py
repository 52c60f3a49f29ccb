"""Which statement is true of which picture: how the tower learns what there is to see (SigLIP, arXiv 2303.15343).

SigLIP's loss asks about each pair of a picture and a text by itself, so a text may fit several pictures and a picture several
texts. That is made use of: a picture comes with short statements, each of one fact, and with false ones that differ in a word.
A statement is compared with each part of the picture and its best part counts (FILIP, 2111.07783): most facts are about one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lifecycle.see.config import SeeConfig
from lifecycle.see.vision import MERGE, VisionTower, merge

EMBEDDING = 128
LONGEST = 32
"""Tokens of a statement."""


def sigmoid_loss(odds: Tensor, true: Tensor) -> Tensor:
    """Every picture with every text, each pair a question of its own: is this true of that? Mean over pictures, in nats.

    odds: [B, F], the log-odds that text f is true of picture b. true: [B, F] bool.
    """
    return -F.logsigmoid(torch.where(true, odds, -odds)).sum() / len(odds)


class TextTower(nn.Module):
    """Statements to vectors: each token with its place through two layers, added up, and two layers more."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embed_tokens, self.embed_places = nn.Embedding(vocab_size, EMBEDDING), nn.Embedding(LONGEST, EMBEDDING)
        self.fc1, self.fc2 = nn.Linear(EMBEDDING, 2 * EMBEDDING, bias=False), nn.Linear(2 * EMBEDDING, EMBEDDING, bias=False)
        self.fc3, self.head = nn.Linear(EMBEDDING, EMBEDDING, bias=False), nn.Linear(EMBEDDING, EMBEDDING, bias=False)

    def forward(self, texts: list[list[int]]) -> Tensor:
        """Token ids to [F, EMBEDDING], of length 1."""
        device, longest = self.head.weight.device, max(map(len, texts))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts], device=device)
        there = torch.tensor([[1.0] * len(text) + [0.0] * (longest - len(text)) for text in texts], device=device)[..., None]
        x = F.layer_norm(self.embed_tokens(ids), (EMBEDDING,)) + self.embed_places.weight[:longest]
        x = x + self.fc2(F.relu(self.fc1(x)))
        x = F.layer_norm((x * there).sum(1), (EMBEDDING,))
        return F.normalize((self.head(x) + self.fc3(F.relu(x))).float(), dim=-1)


class TwoTowers(nn.Module):
    """A vision tower and a small text tower that meet in one space."""

    def __init__(self, config: SeeConfig, vocab_size: int) -> None:
        super().__init__()
        self.vision, self.text = VisionTower(config), TextTower(vocab_size)
        self.image_head = nn.Linear(MERGE**2 * config.hidden_size, EMBEDDING, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-5.0))
        generator = torch.Generator().manual_seed(config.seed + 1)
        with torch.no_grad():
            for name, weight in (*self.text.named_parameters(), *self.image_head.named_parameters()):
                scale = {"embed_tokens.weight": 0.02, "embed_places.weight": 0.3}.get(name, weight.shape[1] ** -0.5)
                weight.normal_(0.0, scale, generator=generator)

    def embed_pictures(self, pixels: Tensor) -> Tensor:
        """[B, 3, 64, 64] to [B, parts, EMBEDDING], of length 1: one vector for each token that the language model will read."""
        return F.normalize(self.image_head(merge(self.vision(pixels))).float(), dim=-1)

    def odds(self, pixels: Tensor, texts: list[list[int]]) -> Tensor:
        """The log-odds that a text is true of a picture, [B, F]: its best part's cosine, scaled, and a bias."""
        cosines = (self.embed_pictures(pixels) @ self.text(texts).mT).amax(1)
        return self.log_scale.exp() * cosines + self.bias
