"""An encoder that knows which caption belongs to which picture, learnt with SigLIP's loss (Zhai et al., 2023, arXiv 2303.15343)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Idefics3VisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

from lifecycle.see.config import EncoderConfig


def sigmoid_loss(pictures: Tensor, captions: Tensor, same: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Every picture with every caption is a yes-or-no question: the mean over pictures of the summed loss in nats, a scalar.

    pictures, captions: unit vectors [B, width]; same [B, B]: whether caption j is true of picture i.
    """
    logits = scale.exp() * pictures @ captions.T + bias  # [B, B]
    return -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(pictures)


class CaptionTower(nn.Module):
    """A small transformer over a caption's tokens, averaged."""

    def __init__(self, vocab_size: int, width: int, longest: int = 64) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, width)
        self.embed_positions = nn.Embedding(longest, width)
        self.block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens [B, T], mask [B, T] (False: padding) to [B, width]."""
        x = self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        x = self.block(x, src_key_padding_mask=~mask)
        return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class TwoTowers(nn.Module):
    """The encoder beside a tower for captions; only the encoder is kept."""

    def __init__(self, encoder: Idefics3VisionTransformer, vocab_size: int) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder, self.captions = encoder, CaptionTower(vocab_size, width)
        self.from_pictures, self.from_captions = nn.Linear(width, width), nn.Linear(width, width)
        self.scale, self.bias = nn.Parameter(torch.tensor(math.log(10.0))), nn.Parameter(torch.tensor(-10.0))

    def vectors(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of pictures uint8 [B, size, size, 3] and of captions [B, T]: twice [B, width]."""
        from lifecycle.see.assembly import patches

        seen = self.from_pictures(patches(self.encoder, pixels).mean(1))
        read = self.from_captions(self.captions(tokens, mask))
        return F.normalize(seen.float(), dim=-1), F.normalize(read.float(), dim=-1)


def new_encoder(config: EncoderConfig, seed: int) -> Idefics3VisionTransformer:
    """A vision transformer of random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Idefics3VisionTransformer(Idefics3VisionConfig(**vision_settings(config)))


def vision_settings(config: EncoderConfig) -> dict[str, int]:
    """The shape in transformers' words."""
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }
