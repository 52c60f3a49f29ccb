"""A Llama checkpoint as a GGUF file, for llama.cpp and OpenVINO. Needs the `gguf` extra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from peer_engines.contender import Unavailable

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What transformers calls a tensor, and what GGUF does."""


def write_gguf(checkpoint: Path, target: Path, precision: str) -> Path:
    """`precision`: "f16" or "bf16"; norms stay in float32. Kept if it is there already. Raises Unavailable."""
    if target.exists():
        return target
    try:
        import gguf
    except ImportError:
        raise Unavailable("writing GGUF needs the gguf package: pip install -e '.[gguf]'") from None
    from safetensors import safe_open

    config = json.loads((checkpoint / "config.json").read_text())
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, "llama")
    _describe(writer, gguf, config, precision)
    _add_tokenizer(writer, gguf, checkpoint)
    kind = gguf.GGMLQuantizationType[precision.upper()]
    with safe_open(checkpoint / "model.safetensors", "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            values = tensors.get_tensor(name).float().numpy()
            if values.ndim == 1:
                writer.add_tensor(gguf_name(name), values)
            else:
                values = _for_rope(name, values, config)
                writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unfinished.rename(target)


def gguf_name(name: str) -> str:
    """ "model.layers.3.mlp.up_proj.weight" becomes "blk.3.ffn_up.weight"."""
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        number, part = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{number}.{NAMES[part]}.weight"
    return f"{NAMES[stem]}.weight"


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """GGUF's rope turns neighbouring rows of a head where transformers' turns halves of it: [heads * D, H], reordered."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def _for_rope(name: str, values: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    return interleave(values, config[heads]) if heads else values


def _describe(writer: Any, gguf: Any, config: dict[str, Any], precision: str) -> None:
    heads = config["num_attention_heads"]
    writer.add_name("random")
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{precision.upper()}"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_freq_base(rope_theta(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def rope_theta(config: dict[str, Any]) -> float:
    """Where transformers 5 writes it, or where 4 did."""
    return float((config.get("rope_parameters") or config).get("rope_theta", 10000.0))


def _add_tokenizer(writer: Any, gguf: Any, checkpoint: Path) -> None:
    described = json.loads((checkpoint / "tokenizer.json").read_text())
    tokens = {number: token for token, number in described["model"]["vocab"].items()}
    kinds = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in described["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")  # digits one by one, then bytes
    writer.add_token_list([tokens[number] for number in range(len(tokens))])
    writer.add_token_types([kinds[number] for number in range(len(tokens))])
    writer.add_token_merges(merges)
    for name in ("bos", "eos", "pad"):
        ids = [number for number, token in tokens.items() if token == _special(checkpoint, name)]
        getattr(writer, f"add_{name}_token_id")(ids[0])
    writer.add_add_bos_token(False)


def _special(checkpoint: Path, name: str) -> str:
    return json.loads((checkpoint / "tokenizer_config.json").read_text())[f"{name}_token"]
