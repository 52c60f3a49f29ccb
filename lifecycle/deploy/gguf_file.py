"""A checkpoint as one GGUF file, for llama.cpp and what is built on it, and for OpenVINO. Needs the extra `gguf`.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lifecycle.deploy import q4_k
from lifecycle.errors import LifecycleError

FILE = "model.gguf"
ROPE_ORDER = {"llama": True, "qwen2": False, "qwen3": False}
"""Families that can be written, and whether their rope turns neighbouring rows in llama.cpp."""
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What transformers calls a tensor, and what GGUF does."""
FILE_TYPES = {"f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0", "q4_k": "MOSTLY_Q4_K_S"}
WIDEST = {"q4_k": ("Q4_K", "Q5_0", "F16"), "q8_0": ("Q8_0", "F16"), "f16": ("F16",), "bf16": ("BF16",)}
"""Of each precision what a matrix is stored in: the first whose blocks divide its rows."""
BLOCKS = {"Q4_K": q4_k.SUPER, "Q5_0": 32, "Q8_0": 32, "F16": 1, "BF16": 1}
GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


def write_gguf(checkpoint: Path, target: Path, precision: str, license: str = "", name: str = "model") -> dict[str, int]:
    """Write a checkpoint directory as `target`; how many tensors are stored in what, for example {"Q8_0": 15, "F32": 7}.

    `precision`: "f16", "bf16", "q8_0" or "q4_k". Embeddings stay in Q8_0 with "q4_k", norms and biases in float32. Raises
    LifecycleError when the package is missing, and for a model or a tokenizer that llama.cpp has no name for.
    """
    gguf = package()
    config = json.loads((checkpoint / "config.json").read_text())
    require_family(config, name)
    unfinished = target.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, config["model_type"])
    kinds: Counter[str] = Counter()
    try:
        _describe(writer, gguf, config, precision, license, name)
        _add_tokenizer(writer, gguf, checkpoint, config["vocab_size"], name)
        for key, values in _tensors(checkpoint):
            kind = stored_as(key, values.shape, precision)
            kinds[kind] += 1
            kept = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(gguf_name(key), _quantised(gguf, _for_rope(key, values, config), kind), raw_dtype=kept)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    unfinished.rename(target)
    return dict(kinds)


def package() -> Any:
    """The module `gguf`. Raises LifecycleError when it is not installed."""
    try:
        import gguf
    except ImportError:
        raise LifecycleError("writing GGUF needs the gguf package: pip install -c constraints.txt -e '.[gguf]'") from None
    return gguf


def require_family(config: dict[str, Any], name: str) -> None:
    """Raises LifecycleError for a model that this file does not know how to write."""
    kind, rope = config["model_type"], (config.get("rope_parameters") or {}).get("rope_type", "default")
    why = None
    if kind not in ROPE_ORDER:
        why = f'its type "{kind}" is not one of {", ".join(ROPE_ORDER)}'
    elif rope != "default" or config.get("rope_scaling"):
        why = "its rope is scaled"
    elif kind == "llama" and (config.get("attention_bias") or config.get("mlp_bias")):
        why = "its matrices have biases, which this family has none of in llama.cpp"
    elif config.get("use_sliding_window"):
        why = "its attention has a window"
    if why:
        raise LifecycleError(f"{name} cannot be written as GGUF: {why}; use --target bf16")


def gguf_name(name: str) -> str:
    """ "model.layers.3.mlp.up_proj.weight" becomes "blk.3.ffn_up.weight"."""
    stem, _, part = name.rpartition(".")
    if stem.startswith("model.layers."):
        number, stem = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{number}.{NAMES[stem]}.{part}"
    return f"{NAMES[stem]}.{part}"


def stored_as(name: str, shape: tuple[int, ...], precision: str) -> str:
    """The type of a tensor, as GGUF calls it."""
    if len(shape) == 1:
        return "F32"
    whole = precision == "q4_k" and name in ("model.embed_tokens.weight", "lm_head.weight")
    return next(kind for kind in WIDEST["q8_0" if whole else precision] if shape[-1] % BLOCKS[kind] == 0)


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """GGUF's rope turns neighbouring rows of a head where transformers' turns halves of it: [heads * D, H], reordered."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def _tensors(checkpoint: Path) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import safe_open

    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                yield name, tensors.get_tensor(name).float().numpy()


def _quantised(gguf: Any, values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "F32":
        return values
    return q4_k.quantise(values) if kind == "Q4_K" else gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])


def _for_rope(name: str, values: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    return interleave(values, config[heads]) if heads and ROPE_ORDER[config["model_type"]] else values


def _describe(writer: Any, gguf: Any, config: dict[str, Any], precision: str, license: str, name: str) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_name(name)
    if license:
        writer.add_license(license)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[precision]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope_theta(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def rope_theta(config: dict[str, Any]) -> float:
    """Where transformers 5 writes it, or where 4 did."""
    return float((config.get("rope_parameters") or config).get("rope_theta", 10000.0))


def _add_tokenizer(writer: Any, gguf: Any, checkpoint: Path, vocab_size: int, name: str) -> None:
    from transformers import AutoTokenizer

    described = json.loads((checkpoint / "tokenizer.json").read_text())
    tokens = {number: token for token, number in described["model"]["vocab"].items()}
    kinds = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in described["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    for number in range(vocab_size):  # an embedding may be wider than the vocabulary
        tokens.setdefault(number, f"[PAD{number}]")
        kinds.setdefault(number, gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    writer.add_tokenizer_pre(splitting(described, name))
    writer.add_token_list([tokens[number] for number in range(vocab_size)])
    writer.add_token_types([kinds[number] for number in range(vocab_size)])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]])
    numbers = {token: number for number, token in tokens.items()}
    told = json.loads((checkpoint / "tokenizer_config.json").read_text())
    for kind in ("bos", "eos", "pad"):
        token = told.get(f"{kind}_token")
        if (number := numbers.get(token["content"] if isinstance(token, dict) else token)) is not None:
            getattr(writer, f"add_{kind}_token_id")(number)
    if (turn_end := numbers.get("<|im_end|>")) is not None:
        writer.add_eot_token_id(turn_end)
    writer.add_add_bos_token(False)
    if (template := AutoTokenizer.from_pretrained(checkpoint, local_files_only=True).chat_template) is not None:
        writer.add_chat_template(plain_template(template))


def splitting(described: dict[str, Any], name: str) -> str:
    """What llama.cpp calls the way in which a tokenizer.json cuts text before merging. Raises LifecycleError for others."""
    rule = described["pre_tokenizer"] or {}
    steps = [(step["type"], step.get("individual_digits"), step.get("add_prefix_space")) for step in rule.get("pretokenizers", [rule])]
    digits_then_bytes = [("Digits", True, None), ("ByteLevel", None, False)]
    if described["model"]["type"] != "BPE" or described.get("normalizer") or steps != digits_then_bytes:
        raise LifecycleError(f"{name} cannot be written as GGUF: its tokenizer is not byte-level BPE with single digits, as ours are; use --target bf16")
    return "smollm"


def plain_template(template: str) -> str:
    """Without transformers' marks of what a trainer learns, which other engines do not parse; it writes the same."""
    return GENERATION.sub(lambda mark: "{%" + mark[1] + (" endif " if mark[2] else " if true ") + mark[3] + "%}", template)
