"""Which caption belongs to which picture: how the tower learns what there is to see (SigLIP, arXiv 2303.15343)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lifecycle.model.decoder import Trunk
from lifecycle.model.presets import ModelConfig
from lifecycle.see.config import SeeConfig
from lifecycle.see.vision import VisionTower

TEXT_LAYERS = 2
LONGEST_CAPTION = 64


def sigmoid_loss(images: Tensor, texts: Tensor, same: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Every picture with every caption, each pair a question of its own: does this belong to that? Mean over pictures, in nats.

    images, texts: [B, E], of length 1. same: [B, B] bool, whether caption j says what is in picture i. The log-odds of
    a pair are scale * (their cosine) + bias.
    """
    odds = scale * images @ texts.mT + bias  # [B, B]
    return -F.logsigmoid(torch.where(same, odds, -odds)).sum() / len(images)


class TwoTowers(nn.Module):
    """A vision tower and a small text tower that meet in one space."""

    def __init__(self, config: SeeConfig, vocab_size: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.vision = VisionTower(config)
        self.text = Trunk(
            ModelConfig(vocab_size, size, TEXT_LAYERS, config.num_heads, config.num_heads, 3 * size, context_length=LONGEST_CAPTION)
        )
        self.image_head, self.text_head = (nn.Linear(size, size, bias=False) for _ in range(2))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))
        generator = torch.Generator().manual_seed(config.seed + 1)
        with torch.no_grad():
            for part in (self.text, self.image_head, self.text_head):
                for weight in part.parameters():
                    if weight.dim() > 1:
                        weight.normal_(0.0, 0.02 if len(weight) == vocab_size else weight.shape[1] ** -0.5, generator=generator)

    def embed_pictures(self, pixels: Tensor) -> Tensor:
        """[B, 3, 64, 64] to [B, E], of length 1: the mean over patches."""
        return F.normalize(self.image_head(self.vision(pixels).mean(1)).float(), dim=-1)

    def embed_captions(self, captions: list[list[int]]) -> Tensor:
        """Token ids to [B, E], of length 1: what stands at each one's last token."""
        lengths = torch.tensor([len(caption) for caption in captions])
        device = self.bias.device
        tokens = torch.tensor([token for caption in captions for token in caption], device=device)
        last = self.text.flat(tokens, lengths)[(lengths.cumsum(0) - 1).to(device)]
        return F.normalize(self.text_head(last).float(), dim=-1)

    def forward(self, pixels: Tensor, captions: list[list[int]]) -> tuple[Tensor, int]:
        """The loss of a batch, and how many pictures found their caption likelier than all others."""
        images, texts = self.embed_pictures(pixels), self.embed_captions(captions)
        words = [tuple(caption) for caption in captions]
        same = torch.tensor([[one == other for other in words] for one in words], device=images.device)
        found = same.gather(1, (images @ texts.mT).argmax(1, keepdim=True)).sum()
        return sigmoid_loss(images, texts, same, self.log_scale.exp(), self.bias), int(found)
