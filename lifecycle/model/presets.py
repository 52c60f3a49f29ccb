"""Sizes of the decoder: one frozen dataclass and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from transformers import LlamaConfig


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a Llama-style decoder."""

    vocab_size: int = 2048
    """Rows of the embedding; at least as many as the tokenizer has tokens."""
    hidden_size: int = 128
    """Width of the residual stream."""
    num_layers: int = 3
    """Blocks of attention and feed-forward."""
    num_heads: int = 4
    """Query heads; each is hidden_size / num_heads wide."""
    num_kv_heads: int = 4
    """Key and value heads; num_heads / num_kv_heads query heads share one (GQA)."""
    intermediate_size: int = 384
    """Width inside the feed-forward block (SwiGLU)."""
    context_length: int = 512
    """Most tokens the model attends over."""
    rope_theta: float = 10_000.0
    """Base of the rotary position frequencies."""
    tie_embeddings: bool = True
    """Share one matrix between the embedding and the output layer."""
    rms_norm_eps: float = 1e-5
    """Added to the mean square before the root in every norm."""

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.num_heads):
            raise LifecycleError(
                f"hidden_size {self.hidden_size} must be a multiple of 2 x num_heads = {2 * self.num_heads}: "
                "heads have an even width so that RoPE can rotate pairs"
            )
        if self.num_heads % self.num_kv_heads:
            raise LifecycleError(
                f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}: "
                "every key head serves the same number of query heads"
            )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads

    @property
    def num_parameters(self) -> int:
        """Trainable parameters; a tied matrix counts once."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        attention = 2 * self.hidden_size * self.head_dim * (self.num_heads + self.num_kv_heads)
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        norms = self.hidden_size * (2 * self.num_layers + 1)
        return embeddings + self.num_layers * (attention + feed_forward) + norms

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations to train on one token of a row of `length` tokens: forward and backward.

        6 per weight that multiplies (the embedding look-up does not) plus causal attention, as in PaLM (2022),
        appendix B, with the half of the score matrix that causality leaves.
        """
        lookup = 0 if self.tie_embeddings else self.vocab_size * self.hidden_size
        return 6 * (self.num_parameters - lookup) + 6 * self.num_layers * self.hidden_size * length

    def to_llama(self) -> LlamaConfig:
        """The same shape as transformers' configuration."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.context_length,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            tie_word_embeddings=self.tie_embeddings,
            rms_norm_eps=self.rms_norm_eps,
            architectures=["LlamaForCausalLM"],
        )

    @classmethod
    def from_llama(cls, llama: LlamaConfig) -> ModelConfig:
        """The shape behind transformers' configuration; LlamaConfig features that the decoder lacks are an error."""
        rope = llama.rope_parameters
        if rope.get("rope_type", "default") != "default":
            raise LifecycleError(
                f'rope scaling "{rope["rope_type"]}" is not written out here: open it with transformers'
            )
        if llama.attention_bias or llama.mlp_bias or llama.hidden_act != "silu":
            raise LifecycleError(
                "biases and activations other than SiLU are not written out here: open it with transformers"
            )
        config = cls(
            vocab_size=llama.vocab_size,
            hidden_size=llama.hidden_size,
            num_layers=llama.num_hidden_layers,
            num_heads=llama.num_attention_heads,
            num_kv_heads=llama.num_key_value_heads,
            intermediate_size=llama.intermediate_size,
            context_length=llama.max_position_embeddings,
            rope_theta=float(rope["rope_theta"]),
            tie_embeddings=bool(llama.tie_word_embeddings),
            rms_norm_eps=llama.rms_norm_eps,
        )
        if llama.head_dim not in (None, config.head_dim):
            raise LifecycleError(
                f"head_dim {llama.head_dim} is not hidden_size / num_heads = {config.head_dim}: use transformers"
            )
        return config


PRESETS = {
    "tiny": ModelConfig(),
    "laptop": ModelConfig(
        vocab_size=2304,
        hidden_size=256,
        num_layers=8,
        num_heads=8,
        num_kv_heads=4,
        intermediate_size=704,
        context_length=1024,
    ),
    "gpu": ModelConfig(
        vocab_size=32_768,
        hidden_size=768,
        num_layers=16,
        num_heads=12,
        num_kv_heads=4,
        intermediate_size=2048,
        context_length=2048,
    ),
    "cluster": ModelConfig(
        vocab_size=32_768,
        hidden_size=2048,
        num_layers=20,
        num_heads=16,
        num_kv_heads=4,
        intermediate_size=5632,
        context_length=2048,
    ),
}
