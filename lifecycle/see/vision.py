"""A vision transformer, written out: square patches, learnt positions, attention in which every patch sees every other.

Parameter names and shapes are those of transformers' `Idefics3VisionTransformer`, so a `state_dict` goes from one to the other
unchanged and both find the same. Shapes in the comments: B pictures, P patches of each, E = hidden_size, H heads.

Papers: ViT (arXiv 2010.11929), SigLIP (2303.15343).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

from lifecycle.see.config import SeeConfig

SIZE, PATCH, MERGE = 64, 8, 2
"""Pixels of a picture's side and of a patch's; patches of a side that become one token of the language model."""
TOKENS = (SIZE // PATCH // MERGE) ** 2
"""Of the language model, a picture."""
EPS = 1e-6


def vision_config(config: SeeConfig) -> Idefics3VisionConfig:
    """The same shape as transformers' configuration."""
    return Idefics3VisionConfig(
        hidden_size=config.hidden_size,
        intermediate_size=4 * config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        image_size=SIZE,
        patch_size=PATCH,
        layer_norm_eps=EPS,
        hidden_act="relu",  # on a CPU a GELU takes a fifth of a step
    )


def pixels(pictures: Tensor) -> Tensor:
    """uint8 [B, 64, 64, 3] to what the tower takes: [B, 3, 64, 64] from -1 to 1."""
    return pictures.permute(0, 3, 1, 2).float().mul_(2 / 255).sub_(1)


class LayerNorm(nn.LayerNorm):
    """In the type of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Every patch attends to every patch."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj))
        weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)  # [B, H, P, P]
        return self.out_proj((weights @ v).transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """Two layers around a ReLU."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then feed-forward, each on a normalised copy and added to the residual stream."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.self_attn, self.layer_norm1 = Attention(size, heads), LayerNorm(size, eps=EPS)
        self.mlp, self.layer_norm2 = FeedForward(size), LayerNorm(size, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Patches(nn.Module):
    """Each patch of 8 x 8 pixels through one linear layer, and what is learnt about its position."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, size, PATCH, PATCH)
        self.position_embedding = nn.Embedding((SIZE // PATCH) ** 2, size)

    def forward(self, x: Tensor) -> Tensor:
        # A convolution whose windows do not overlap is a product: [B, 3, 64, 64] to [B, P, 3 * 8 * 8].
        x = x.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        return F.linear(x, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias) + self.position_embedding.weight.to(x.dtype)


class VisionTower(nn.Module):
    """Pictures [B, 3, 64, 64] to a state for each patch, [B, P, E]."""

    def __init__(self, config: SeeConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.embeddings = Patches(size)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(Block(size, config.num_heads) for _ in range(config.num_layers))})
        self.post_layernorm = LayerNorm(size, eps=EPS)
        self.initialise(config.seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Normal weights of standard deviation 1 / sqrt(inputs); positions are waves, so that neighbours are alike from the start."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.dim() > 1:
                weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
        self.embeddings.position_embedding.weight.copy_(waves(SIZE // PATCH, self.post_layernorm.normalized_shape[0]))
        for block in self.encoder["layers"]:  # what writes into the residual stream starts small
            for layer in (block.self_attn.out_proj, block.mlp.fc2):
                layer.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.states(x)[-1]

    def states(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What stands behind half of the blocks (rounded up), before the last one, and behind it, the latter normalised."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        states = [self.embeddings(x)]
        for block in self.encoder["layers"]:
            states.append(block(states[-1]))
        return states[len(states) // 2], states[-2], self.post_layernorm(states[-1])


def waves(side: int, size: int) -> Tensor:
    """[side * side, size]: sines and cosines of row and column, a quarter of the width each."""
    frequencies = 1 / 100 ** (torch.arange(size // 4) / (size // 4))  # from one radian a patch to a hundredth
    angles = torch.arange(side)[:, None] * frequencies  # [side, size / 4]
    along = torch.cat((angles.sin(), angles.cos()), dim=1)  # [side, size / 2]
    grid = along[:, None].expand(side, side, -1), along[None].expand(side, side, -1)
    return 0.5 * torch.cat(grid, dim=-1).flatten(0, 1)


def merge(x: Tensor) -> Tensor:
    """Neighbouring 2 x 2 patches become one: [B, P, E] to [B, P / 4, 4 E] (pixel shuffle, as Idefics3 does it)."""
    B, P, E = x.shape
    side = int(P**0.5) // MERGE
    return x.view(B, side, MERGE, side, MERGE, E).transpose(2, 3).reshape(B, side * side, MERGE * MERGE * E)
