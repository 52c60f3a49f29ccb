"""The contrastive loss is its formula."""

from __future__ import annotations

import math

import torch

from lifecycle.see import SeeConfig
from lifecycle.see.contrastive import TwoTowers, sigmoid_loss
from lifecycle.see.vision import pixels


def test_three_pairs_by_hand():
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(3, 4), dim=-1) for _ in range(2))
    total = 0.0
    for i in range(3):
        for j in range(3):
            odds = 10.0 * float(images[i] @ texts[j]) - 2.0
            sign = 1 if i == j else -1
            total += math.log(1 + math.exp(-sign * odds))
    loss = sigmoid_loss(images, texts, torch.eye(3, dtype=torch.bool), torch.tensor(10.0), torch.tensor(-2.0))
    assert abs(loss.item() - total / 3) < 1e-5


def test_a_caption_twice_belongs_to_both_pictures():
    towers = TwoTowers(SeeConfig(num_layers=1, hidden_size=32, num_heads=2), vocab_size=50)
    x = pixels(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8))
    captions = [[1, 2], [1, 2], [3]]
    loss, _ = towers(x, captions)
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    expected = sigmoid_loss(towers.embed_pictures(x), towers.embed_captions(captions), same, towers.log_scale.exp(), towers.bias)
    torch.testing.assert_close(loss, expected)
