"""Families of models that see, as directories with a tiny random model, a tokenizer and an image processor."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

SPECIAL = [
    *("<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<image>", "<fake_token_around_image>", "<global-img>"),
    *("<end_of_utterance>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<video>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
]
TOKENS = [*SPECIAL, *map(chr, range(32, 127)), "\n"]
IDS = {token: number for number, token in enumerate(TOKENS)}
TEXT = {
    "vocab_size": len(TOKENS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 1,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
QWEN_IDS = {
    "image_token_id": IDS["<|image_pad|>"],
    "video_token_id": IDS["<|video_pad|>"],
    "vision_start_token_id": IDS["<|vision_start|>"],
    "vision_end_token_id": IDS["<|vision_end|>"],
}
QWEN_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 4,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 32,
}
QWEN_PICTURES = {
    "patch_size": 4,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 16 * 16, "longest_edge": 32 * 32},
}
TILES = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}, "do_image_splitting": True}


@dataclass(frozen=True)
class Family:
    """`settings` of the config, the image processor, what else the processor is told, and how its template marks a picture."""

    model_type: str
    settings: dict[str, Any]
    pictures: Any
    processor: dict[str, Any] = field(default_factory=dict)
    mark: str = "<image>"
    names: dict[str, str] = field(default_factory=dict)
    """What the processor calls some special tokens."""
    trait: str = ""
    """What is special, for the table of `docs/model-families.md`."""
    clips: str = "refused without torchvision"

    @property
    def architecture(self) -> str:
        return MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[self.model_type]

    def save(self, directory: Path) -> Path:
        """A version directory."""
        tokenizer = character_tokenizer(self.names)
        tokenizer.chat_template = TEMPLATE.replace("MARK", self.mark)
        tokenizer.save_pretrained(directory)
        self.pictures.save_pretrained(directory)
        (directory / "processor_config.json").write_text(json.dumps(self.processor))
        self.model().save_pretrained(directory)
        return directory

    def model(self) -> Any:
        torch.manual_seed(0)
        config = AutoConfig.for_model(self.model_type, **self.settings, tie_word_embeddings=False)
        model = AutoModelForImageTextToText.from_config(config)
        for _, parameter in model.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        model.generation_config.pad_token_id = 1
        return model.float().eval()


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}MARK{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def character_tokenizer(names: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """A token for each character, and the families' special ones."""
    tokenizer = Tokenizer(models.BPE(vocab=IDS, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", extra_special_tokens=names or {})


def _siglip(model_type: str, pictures: Any) -> Family:
    settings = {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": {**TOWER, "image_size": 32},
        "scale_factor": 2,
        "image_token_id": IDS["<image>"],
        "pad_token_id": 1,
    }
    options = {"image_seq_len": 4}
    return Family(model_type, settings, pictures, options, trait="pictures in tiles", clips="as their frames")


def _qwen(model_type: str, trait: str, text: dict[str, Any], tower: dict[str, Any]) -> Family:
    settings = {"text_config": {**TEXT, **text}, "vision_config": {**QWEN_TOWER, **tower}, **QWEN_IDS}
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    return Family(model_type, settings, Qwen2VLImageProcessorPil(**QWEN_PICTURES), mark=mark, trait=trait)


BIDIRECTIONAL = Family(
    "gemma3",
    {
        "text_config": {**TEXT, "sliding_window": 64},
        "vision_config": {**TOWER, "image_size": 32, "vision_use_head": False},
        "mm_tokens_per_image": 4,
        "image_token_id": IDS["<image>"],
        "boi_token_id": IDS["<|vision_start|>"],
        "eoi_token_id": IDS["<|vision_end|>"],
    },
    Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
    {"image_seq_length": 4},
    "<|vision_start|>",
    {"image_token": "<image>", "boi_token": "<|vision_start|>", "eoi_token": "<|vision_end|>"},
)
"""A picture's tokens see those that follow them in it."""
PINPOINTS = [[16, 16], [16, 32], [32, 16], [32, 32]]
FAMILIES = {
    "idefics3": _siglip("idefics3", Idefics3ImageProcessorPil(**TILES)),
    "smolvlm": _siglip("smolvlm", SmolVLMImageProcessorPil(**TILES)),
    "llava_onevision": Family(
        "llava_onevision",
        {
            "text_config": {"model_type": "qwen2", **TEXT},
            "vision_config": {"model_type": "siglip_vision_model", **TOWER, "image_size": 16, "vision_use_head": False},
            "image_token_id": IDS["<image>"],
            "video_token_id": IDS["<video>"],
            "image_grid_pinpoints": PINPOINTS,
            "vision_feature_layer": -1,
        },
        LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=PINPOINTS),
        {"num_image_tokens": 4, "vision_feature_select_strategy": "full"},
        trait="a lone picture in tiles",
    ),
    "llava": Family(
        "llava",
        {
            "text_config": {"model_type": "llama", **TEXT},
            "vision_config": {"model_type": "clip_vision_model", **TOWER, "image_size": 32},
            "image_token_id": IDS["<image>"],
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
        },
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        clips="as their frames",
    ),
    "internvl": Family(
        "internvl",
        {
            "text_config": {"model_type": "qwen2", **TEXT},
            "vision_config": {**TOWER, "image_size": [16, 16], "patch_size": [4, 4]},
            "image_token_id": IDS["<image>"],
            "image_seq_length": 4,
        },
        GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, min_patches=1, max_patches=3),
        {"image_seq_length": 4},
        names={
            "start_image_token": "<|vision_start|>",
            "end_image_token": "<|vision_end|>",
            "context_image_token": "<image>",
            "video_token": "<video>",
        },
        trait="pictures in tiles",
        clips="as their frames",
    ),
    "qwen2_vl": _qwen(
        "qwen2_vl",
        "positions in three dimensions",
        {"rope_parameters": ROPE},
        {"depth": 2, "embed_dim": 32, "mlp_ratio": 2},
    ),
    "qwen2_5_vl": _qwen(
        "qwen2_5_vl",
        "positions in three dimensions",
        {"rope_parameters": ROPE},
        {"depth": 2, "window_size": 16, "fullatt_block_indexes": [1]},
    ),
    "qwen3_vl": _qwen(
        "qwen3_vl",
        "positions in three dimensions, pictures enter several layers",
        {"rope_parameters": {**ROPE, "mrope_interleaved": True}},
        {"depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
    ),
}
