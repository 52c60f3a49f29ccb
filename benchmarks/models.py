"""Models for benchmarks of speed: real shapes with random weights, built from a config, so that nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

SHAPES = {
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "15m": {
        "vocab_size": 8192,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
"""SmolLM2-135M's shape, and one of 15.7M parameters."""


def random_checkpoint(shape: str, directory: Path) -> Path:
    """A Llama checkpoint of this shape in bfloat16, with a tokenizer; kept if it is there already."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lifecycle.model.tokenizer import train_tokenizer

    target = directory / shape
    if not (target / "config.json").exists():
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**SHAPES[shape])).to(torch.bfloat16).save_pretrained(target)
        train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 4, 320).save_pretrained(target)
    return target

MARKERS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
"""How Idefics3 writes a picture."""


def random_seeing_checkpoint(directory: Path) -> Path:
    """An Idefics3 checkpoint in float32, with our decoder's default shape behind a small vision tower; kept if it is there already.

    Pictures of 64 x 64 pixels in patches of 8 are 16 tokens each.
    """
    import json

    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    from lifecycle.model.presets import ModelConfig
    from lifecycle.model.tokenizer import train_tokenizer

    target = directory / "seeing"
    if (target / "config.json").exists():
        return target
    tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 4, 320)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS)})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|image|>", "<image>")
    tokenizer.save_pretrained(target)
    side = {"longest_edge": 64}
    Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False).save_pretrained(target)
    (target / "processor_config.json").write_text(json.dumps({"image_seq_len": 16}))
    torch.manual_seed(0)
    config = Idefics3Config(
        text_config=ModelConfig(context_length=8192).to_llama().to_dict(),
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
        },
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(target)
    return target
