"""Model families as tiny random models: a config class by name, what it needs beside the common sizes, and its way.

python -m tests.serving.backends.families > docs/model-families.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.serving.vision.families import FAMILIES as SEEING

VOCAB = 61
WINDOW = 8
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
HEAD = {"head_dim": 8}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ALTERNATE = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
MLA = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
MOE = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 16,
}
GPT = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 256}


@dataclass(frozen=True)
class Family:
    """`trait`: what makes its attention special. `settings` override COMMON. `how`: what its cache can do, when padded."""

    model_type: str
    trait: str
    settings: dict[str, Any]
    how: str | None = None
    tolerance: float = 1e-4

    @property
    def way(self) -> str:
        return "packed" if self.how is None else "padded"

    def model(self) -> Any:
        """Random weights that make every part count: normalised models would hide most mistakes behind tiny numbers."""
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(self.model_type, **{**COMMON, **self.settings}))
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or "sinks" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        return model.float().eval()


def packed(model_type: str, trait: str = "", **settings: Any) -> Family:
    return Family(model_type, trait, settings)


def padded(model_type: str, how: str, trait: str = "", *, tolerance: float = 1e-4, **settings: Any) -> Family:
    return Family(model_type, trait, settings, how, tolerance)


TOGETHER = "decodes together"
BY_TOKEN = "later chunks token by token"
SINGLY = "one sequence at a time, later chunks token by token"
AGAIN = "without a cache"
HYBRID = "recurrent hybrid"
FAMILIES = [
    packed("apertus"),
    packed("arcee"),
    packed("biogpt"),
    packed("bitnet"),
    packed("cohere"),
    packed("cohere2", "sliding windows", **ALTERNATE),
    packed("ctrl", **GPT, dff=48),
    packed("cwm", "sliding windows", **ALTERNATE, **HEAD, bos_token_id=1, eos_token_id=2),
    packed("deepseek_v2", "latent attention", **MLA),
    packed("deepseek_v3", "latent attention", **MLA),
    packed("doge"),
    packed("dots1", **MLA),
    packed("ernie4_5", **HEAD),
    packed(
        "ernie4_5_moe",
        moe_intermediate_size=16,
        moe_num_experts=4,
        moe_k=2,
        moe_num_shared_experts=1,
        moe_layer_start_index=1,
    ),
    packed("exaone4", "sliding windows", **ALTERNATE),
    packed("flex_olmo"),
    packed("gemma", **HEAD),
    packed("gemma2", "sliding windows, soft caps", **ALTERNATE, **HEAD, attn_logit_softcapping=2.0),
    packed("gemma3_text", "sliding windows", **ALTERNATE, **HEAD),
    packed(
        "gemma3n_text",
        "shared keys",
        **HEAD,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=WINDOW,
        num_kv_shared_layers=0,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCAB,
        laurel_rank=4,
        altup_num_inputs=2,
        activation_sparsity_pattern=[0.0, 0.0],
    ),
    packed(
        "gemma4_text",
        "sliding windows, two head sizes",
        **ALTERNATE,
        **HEAD,
        global_head_dim=16,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCAB,
    ),
    packed("glm", **HEAD),
    packed("glm4", **HEAD),
    packed("glm4_moe", **{**MLA, **HEAD, "num_key_value_heads": 2}),
    packed("gpt2", **GPT),
    packed("gpt_bigcode", **GPT),
    packed("gpt_neox"),
    packed("gpt_oss", "sliding windows, sinks", **ALTERNATE, **HEAD, **EXPERTS),
    packed("granite"),
    packed("granitemoe", **EXPERTS),
    packed("granitemoeshared", **EXPERTS),
    packed("helium", **HEAD),
    packed("hunyuan_v1_dense", **HEAD),
    packed("hunyuan_v1_moe", **HEAD),
    packed("jais2"),
    packed("jetmoe", kv_channels=8, **EXPERTS),
    packed("llama"),
    packed(
        "llama4_text",
        "attention chunks",
        attention_chunk_size=WINDOW,
        layer_types=["chunked_attention", "full_attention"],
        intermediate_size_mlp=48,
        **EXPERTS,
        **HEAD,
    ),
    packed("minicpm3", "latent attention", **MLA),
    packed("minimax_m2", **EXPERTS, **HEAD),
    packed("ministral", "sliding windows", **ALTERNATE, **HEAD),
    packed("ministral3", **HEAD),
    packed("mistral", "sliding windows", sliding_window=WINDOW),
    packed("mixtral", **EXPERTS),
    packed("nanochat"),
    packed("nemotron"),
    packed("olmo"),
    packed("olmo2"),
    packed("olmo3", "sliding windows", **ALTERNATE),
    packed("olmoe", **MOE),
    packed("opt", ffn_dim=48, word_embed_proj_dim=32),
    packed("persimmon"),
    packed("phi"),
    packed("phi3", "sliding windows", sliding_window=WINDOW),
    packed("phimoe", **EXPERTS),
    packed("qwen2"),
    packed("qwen2_moe", **MOE, shared_expert_intermediate_size=16),
    packed("qwen3", **HEAD),
    packed("qwen3_moe", **MOE, **HEAD),
    packed("seed_oss", **HEAD),
    packed("smollm3", no_rope_layers=[1, 0]),
    packed("stablelm"),
    packed("starcoder2", "sliding windows", sliding_window=WINDOW),
    packed("vaultgemma", **HEAD),
    packed("youtu", **MLA),
    padded("bamba", TOGETHER, HYBRID, **SSM, attn_layer_indices=[1], mamba_expand=2),
    padded("bloom", TOGETHER, "alibi", n_layer=2, n_head=4),
    padded("codegen", TOGETHER, **GPT, rotary_dim=8),
    padded("diffllama", TOGETHER),
    padded("falcon", TOGETHER, alibi=False),
    padded("falcon_h1", TOGETHER, HYBRID, mamba_d_ssm=64, **SSM),
    padded("falcon_mamba", BY_TOKEN, "recurrent"),
    padded(
        "gpt_neo", TOGETHER, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=WINDOW
    ),
    padded("gptj", TOGETHER, **GPT, rotary_dim=8),
    padded("granitemoehybrid", TOGETHER, HYBRID, **SSM, layer_types=["mamba", "attention"], **EXPERTS),
    padded(
        "jamba",
        BY_TOKEN,
        HYBRID,
        attn_layer_period=2,
        attn_layer_offset=1,
        use_mamba_kernels=False,
        **EXPERTS | {"num_experts": 4},
    ),
    padded("lfm2", TOGETHER, HYBRID, layer_types=["conv", "full_attention"]),
    padded("mamba", BY_TOKEN, "recurrent"),
    padded("mamba2", TOGETHER, "recurrent", num_heads=8, head_dim=8, state_size=8, n_groups=1, expand=2),
    padded("minimax", SINGLY, HYBRID, **LINEAR, **EXPERTS, **HEAD),
    padded("mpt", TOGETHER, "alibi", d_model=32, n_heads=4, n_layers=2, max_seq_len=256),
    # transformers bounds the time step in prompts but not in single tokens: its cache differs from its own prompt.
    padded(
        "nemotron_h",
        TOGETHER,
        tolerance=1e-3,
        trait=HYBRID,
        hybrid_override_pattern="M*",
        mamba_num_heads=8,
        mamba_head_dim=8,
        ssm_state_size=8,
        n_groups=1,
    ),
    padded("olmo_hybrid", TOGETHER, HYBRID),
    padded("openai-gpt", AGAIN, **GPT),
    padded("qwen3_5_text", TOGETHER, HYBRID, **LINEAR, **DELTA),
    padded("qwen3_next", TOGETHER, HYBRID, **LINEAR, **MOE, shared_expert_intermediate_size=16, **DELTA),
    padded(
        "recurrent_gemma",
        AGAIN,
        HYBRID,
        block_types=["recurrent", "attention"],
        lru_width=32,
        attention_window_size=WINDOW,
    ),
    padded("rwkv", AGAIN, "recurrent"),
    padded("xglm", TOGETHER, d_model=32, num_layers=2, attention_heads=4, ffn_dim=48),
    padded(
        "zamba2",
        AGAIN,
        HYBRID,
        num_hidden_layers=3,
        layers_block_type=["mamba", "hybrid", "mamba"],
        mamba_headdim=8,
        mamba_d_state=8,
        mamba_ngroups=1,
        mamba_expand=2,
        num_mem_blocks=1,
        adapter_rank=4,
    ),
]


def document() -> str:
    """docs/model-families.md."""
    lines = [
        "# Model families",
        "",
        "Which way the load-time check sends a transformers architecture, written by `python -m tests.serving.backends.families`",
        "from the table that the tests go through: each family as a tiny random model, in random chunks, with preemptions and",
        "prefix hits, has the logits of transformers' eager attention to within 1e-4. A family that is not listed is not refused:",
        "the check decides on its own, and `lifecycle serve` logs which way and why. `--backend packed|padded` overrides it.",
        "",
        "**Packed**: all sequences of a step in one row without padding, keys and values in shared blocks, prefixes cached.",
        "",
        "| model_type | class | what is special |",
        "|---|---|---|",
    ]
    lines += [f"{_row(family)} {family.trait} |" for family in FAMILIES if family.way == "packed"]
    lines += [
        "",
        "**Padded**: through transformers' own cache, for recurrent layers and attention that no plug reaches; no prefix caching.",
        "What a cache can do is tried at load, best first.",
        "",
        "| model_type | class | what is special | how |",
        "|---|---|---|---|",
    ]
    lines += [f"{_row(family)} {family.trait} | {family.how} |" for family in FAMILIES if family.way == "padded"]
    lines += [
        "",
        "**Models that see** (`AutoModelForImageTextToText`): packed, or refused with the reason; the check at load includes a",
        "picture. Greedy answers through the engine are those of transformers' generate, for texts, pictures of several sizes,",
        "second turns and all of them in one batch, with chunks that end inside a picture (`tests/serving/vision`).",
        "",
        "| model_type | class | what is special | clips |",
        "|---|---|---|---|",
        *(f"| `{name}` | {one.architecture} | {one.trait} | {one.clips} |" for name, one in SEEING.items()),
    ]
    return "\n".join(lines) + "\n"


def _row(family: Family) -> str:
    return f"| `{family.model_type}` | {MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family.model_type]} |"


if __name__ == "__main__":
    print(document(), end="")
