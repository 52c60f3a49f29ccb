"""The contrastive loss is its formula."""

from __future__ import annotations

import math

import torch

from lifecycle.see import SeeConfig
from lifecycle.see.contrastive import TwoTowers, sigmoid_loss
from lifecycle.see.vision import TOKENS, pixels


def test_three_pairs_by_hand():
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(3, 4), dim=-1) for _ in range(2))
    total = 0.0
    for i in range(3):
        for j in range(3):
            odds = 10.0 * float(images[i] @ texts[j]) - 2.0
            sign = 1 if i == j else -1
            total += math.log(1 + math.exp(-sign * odds))
    loss = sigmoid_loss(10.0 * images @ texts.mT - 2.0, torch.eye(3, dtype=torch.bool))
    assert abs(loss.item() - total / 3) < 1e-5


@torch.inference_mode()
def test_the_best_part_of_a_picture_counts():
    towers = TwoTowers(SeeConfig(num_layers=1, hidden_size=32, num_heads=2), vocab_size=50)
    x = pixels(torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8))
    texts = [[1, 2], [3, 4, 5], [2, 1], [6]]
    odds = towers.odds(x, texts)
    parts, said = towers.embed_pictures(x), towers.text(texts)
    assert parts.shape[:2] == (3, TOKENS) and odds.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            best = max(float(part @ said[j]) for part in parts[i])
            assert abs(odds[i, j].item() - (10.0 * best - 5.0)) < 1e-4


@torch.inference_mode()
def test_a_statement_is_the_same_beside_longer_ones_and_its_order_matters():
    text = TwoTowers(SeeConfig(num_layers=1, hidden_size=32, num_heads=2), vocab_size=50).text
    torch.testing.assert_close(text([[1, 2]])[0], text([[1, 2], [1, 2, 3, 4]])[0])
    assert not torch.allclose(text([[1, 2]]), text([[2, 1]]), atol=1e-3)
