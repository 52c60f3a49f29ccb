"""A Llama-style decoder, written out: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Parameter names and shapes are those of transformers' `LlamaForCausalLM`, so a `state_dict` goes from one to the
other unchanged and both give the same logits. Shapes in the comments: B rows, T new tokens, S tokens seen so far
(S = T without a cache), H query heads, K key/value heads, D = hidden_size / H. In training documents of any lengths lie
one after the other in a flat row of N tokens (`lifecycle.model.rows`): then [N, ...] stands for [B, T, ...].

Papers: Llama 2 (arXiv 2307.09288), RMSNorm (1910.07467), RoPE (2104.09864), GQA (2305.13245), SwiGLU (2002.05202).
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lifecycle.model.fused import IGNORE, causal_attention, cross_entropy, feed_forward, project, rms_norm, rotate
from lifecycle.model.presets import ModelConfig
from lifecycle.model.rows import Rows, inverse, pick

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of every layer, each [B, K, S, D]."""

Inserted = tuple[Tensor, Tensor]
"""Places [n] in a flat row and what stands there instead of the tokens' embeddings: [n, hidden_size]."""

TOKEN_STEP = 128
"""Products in training are over multiples of so many tokens: few shapes, as in `lifecycle.model.rows`."""

WRITTEN_OUT_UP_TO = 512
"""Longest rows for which plain matrix products beat torch's fused attention on a CPU, whose bf16 gradient is slow."""


class RMSNorm(nn.Module):
    """Divide by the root of the mean square of the last dimension, then scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's angles, each [context_length, D / 2] in fp32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents  # [D / 2]
    angles = torch.arange(config.context_length, dtype=torch.float32)[:, None] * frequencies  # [context_length, D / 2]
    return angles.cos(), angles.sin()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of q [B, H, T, D] over k and v [B, K, S, D], each shared by H / K query heads: [B, H, T, D].

    The T queries are the last of the S positions; T is S, or 1 with a cache.
    """
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    if q.device.type == "cpu" and q.dtype is torch.bfloat16 and T == S <= WRITTEN_OUT_UP_TO:
        G = H // K  # the queries that share a key, one below the other: [B * K, G * T, D]
        q, k, v = q.reshape(B * K, G * T, D), k.reshape(B * K, S, D), v.reshape(B * K, S, D)
        return causal_attention(q, k, v).view(B, H, T, D)
    # SDPA's `is_causal` lines the mask up at the top left, which is wrong once there is a past; a single new token
    # may look at everything, so it needs no mask.
    return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1, enable_gqa=True)


class Attention(nn.Module):
    """Causal self-attention in which H / K query heads share one key and value head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.H, self.K, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None = None, rows: Rows | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        qkv = project(x, self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        turned, v = qkv.unflatten(-1, (-1, self.head_dim)).split((self.H + self.K, self.K), dim=-2)
        q, k = rotate(turned, cos, sin).split((self.H, self.K), dim=-2)  # [B, T, H, D] and, like v, [B, T, K, D]
        if rows is not None:
            return self.o_proj(rows.attend(attend, q, k, v).flatten(-2)), (k, v)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, heads, T, D]
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)  # [B, K, S, D]
        x = attend(q, k, v)  # [B, H, T, D]
        return self.o_proj(x.transpose(1, 2).flatten(-2)), (k, v)


class FeedForward(nn.Module):
    """SwiGLU: one projection gates the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return feed_forward(x, self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)


class Block(nn.Module):
    """Attention, then feed-forward, each on a normalised copy and added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None = None, rows: Rows | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.self_attn(self.input_layernorm(x), cos, sin, past, rows)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), present


class Trunk(nn.Module):
    """Everything below the output layer: tokens [B, T] to hidden states [B, T, hidden_size], or [N] with `rows`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        cos, sin = rotary_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, tokens: Tensor, cache: Cache | None = None, rows: Rows | None = None, inserted: Inserted | None = None
    ) -> Tensor:
        past = cache[0][0].shape[2] if cache else 0
        x = self.embed_tokens(tokens)  # [B, T, hidden_size]
        if inserted is not None:
            places, embeddings = inserted
            x = x.index_copy(0, places, embeddings.to(x.dtype))
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(
                torch.get_autocast_dtype(x.device.type)
            )  # else the residual stream stays fp32 and every op casts it
        where = slice(past, past + tokens.shape[-1]) if rows is None else rows.positions
        cos, sin = (table[where].to(x.dtype)[:, None] for table in (self.cos, self.sin))  # [T, 1, D / 2]
        for index, layer in enumerate(self.layers):
            x, present = layer(x, cos, sin, cache[index] if past else None, rows)
            if cache is not None:
                cache[index : index + 1] = [present]
        return self.norm(x)

    def flat(self, tokens: Tensor, lengths: Tensor, inserted: Inserted | None = None) -> Tensor:
        """Hidden states of documents one after the other: tokens [N] to [N + fillers, hidden_size].

        lengths: tokens of each document, [documents] int64 on the CPU. The fillers are documents of their own, which make
        the number of rows a multiple of `TOKEN_STEP`.
        """
        filler = -len(tokens) % TOKEN_STEP
        pieces = torch.arange(filler).split(self.cos.shape[0]) if filler else ()
        lengths = torch.cat((lengths, lengths.new_tensor([len(piece) for piece in pieces])))
        return self(F.pad(tokens, (0, filler)), rows=Rows.of(lengths, tokens.device), inserted=inserted)


class Decoder(nn.Module):
    """The language model: next-token logits, or their loss against given targets."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Normal weights of standard deviation 0.02; what writes into the residual stream starts smaller.

        The 2 x num_layers projections that add to the stream are divided by the root of their number (GPT-2), so
        its variance does not grow with depth and the first loss is ln(vocab_size).
        """
        generator = torch.Generator().manual_seed(seed)
        residual_std = 0.02 / math.sqrt(2 * self.config.num_layers)
        for name, weight in self.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
            else:
                std = residual_std if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
                weight.normal_(0.0, std, generator=generator)

    def forward(self, tokens: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits [B, T, vocab_size], or with `targets` the mean loss in nats over those that are not `IGNORE`.

        tokens, targets: [B, T] int64; `targets[b, t]` is the token that should follow `tokens[b, : t + 1]`.
        cache: an empty list to be filled, or what an earlier call filled; then `tokens` is one new token per row.
        """
        if cache and tokens.shape[1] != 1:
            raise ValueError(f"with a filled cache give one new token per row, not {tokens.shape[1]}")
        if targets is not None:
            lengths = torch.full((len(tokens),), tokens.shape[1])
            return self.score(tokens.flatten(), targets.flatten(), lengths)[0] / (targets != IGNORE).sum()
        return self.lm_head(self.model(tokens, cache))

    def score(
        self, tokens: Tensor, targets: Tensor, lengths: Tensor, inserted: Inserted | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss in nats, summed over the targets that are not `IGNORE`, and how many of them are right.

        tokens, targets: [N] int64, documents one after the other; each sees itself alone, from position 0 on.
        lengths: how many of the N tokens each document has, [documents] int64 on the CPU. Documents of similar length
        had best be neighbours. `inserted` takes the place of some tokens' embeddings. Right is a target than which no token is
        likelier.
        """
        hidden = self.model.flat(tokens, lengths, inserted)
        counted = (targets != IGNORE).nonzero()[:, 0]
        # The output layer never sees what does not count, but for a few fillers.
        spare = -len(counted) % TOKEN_STEP
        index = F.pad(counted, (0, spare), value=len(hidden))  # [n]
        targets = F.pad(targets[counted], (0, spare), value=IGNORE)  # [n]
        hidden = pick(hidden, index, inverse(index, len(hidden)))  # [n, hidden_size]
        return cross_entropy(hidden, self.lm_head.weight, targets)

    @torch.inference_mode()
    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        stop: Collection[int] = (),
        generator: torch.Generator | None = None,
        use_cache: bool = True,
    ) -> Tensor:
        """Continue rows of equal length: [B, T] to [B, T + new]; temperature 0 takes the likeliest token.

        Ends when every row has produced a token of `stop` (a finished row repeats its stop token), after
        `max_new_tokens`, or at `context_length`. The plainest loop that is right: no batching of unequal prompts.
        """
        cache: Cache | None = [] if use_cache else None
        done = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        for _ in range(min(max_new_tokens, self.config.context_length - tokens.shape[1])):
            new = tokens[:, -1:] if cache else tokens
            logits = self(new, cache=cache)[:, -1].float()  # [B, vocab_size]
            if temperature > 0:
                chosen = torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator)  # [B, 1]
            else:
                chosen = logits.argmax(dim=-1, keepdim=True)  # [B, 1]
            chosen = torch.where(done[:, None], tokens[:, -1:], chosen)
            tokens = torch.cat((tokens, chosen), dim=1)
            done |= torch.isin(chosen[:, 0], torch.tensor(list(stop), device=tokens.device))
            if done.all():
                break
        return tokens
