"""A vision tower in front of a language model, as a checkpoint that transformers opens: class Idefics3.

The language model stays as it was, but for words of pictures that it gets to know (`lifecycle.see.vocabulary`): the tokens that
Idefics3 needs take the ids that the tokenizer keeps in reserve.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerBase,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from lifecycle.errors import LifecycleError
from lifecycle.model.checkpoint import load_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.widening import fitted
from lifecycle.see.config import SeeConfig
from lifecycle.see.vision import MERGE, SIZE, TOKENS, VisionTower, merge, vision_config
from lifecycle.see.vocabulary import knowing, remade, with_words

NAMES = {
    "<|image|>": "<image>",
    "<|reserved_0|>": "<fake_token_around_image>",
    "<|reserved_1|>": "<global-img>",
    "<|reserved_2|>": "<end_of_utterance>",
}
"""The tokenizer's reserved tokens, and what Idefics3's processor calls them."""
PICTURE = "<fake_token_around_image><global-img>" + "<image>" * TOKENS + "<fake_token_around_image>"
"""What is written for a picture."""


class Connector(nn.Module):
    """Neighbouring patches, joined and brought to the width of the language model."""

    def __init__(self, vision_size: int, text_size: int, scale: float, seed: int) -> None:
        super().__init__()
        self.proj = nn.Linear(MERGE**2 * vision_size, text_size, bias=False)
        with torch.no_grad():  # as large as the embeddings of words
            generator = torch.Generator().manual_seed(seed)
            self.proj.weight.normal_(0.0, scale * self.proj.in_features**-0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(merge(x))


class Seer(nn.Module):
    """Tower, connector and language model."""

    def __init__(self, tower: VisionTower, decoder: Decoder, config: SeeConfig) -> None:
        super().__init__()
        self.tower, self.decoder = tower, decoder
        scale = decoder.model.embed_tokens.weight.std().item()
        self.connector = Connector(config.hidden_size, decoder.config.hidden_size, scale, config.seed)

    def look(self, pixels: Tensor) -> Tensor:
        """Pictures [B, 3, 64, 64] to what the language model reads, [B, TOKENS, its hidden_size]."""
        return self.connector(self.tower(pixels))

    def state_of_idefics3(self) -> dict[str, Tensor]:
        """The weights under transformers' names."""
        found = {f"model.vision_model.{name}": weight for name, weight in self.tower.state_dict().items()}
        found |= {f"model.text_model.{name}": weight for name, weight in self.decoder.model.state_dict().items()}
        found["model.connector.modality_projection.proj.weight"] = self.connector.proj.weight
        return found | {"lm_head.weight": self.decoder.lm_head.weight}


def language_model(directory: Path) -> tuple[Decoder, PreTrainedTokenizerBase]:
    """A chatting Llama that has a token for each word of pictures, and its tokenizer with the names that Idefics3 uses.

    Raises LifecycleError for another architecture, and for a tokenizer without the reserved tokens.
    """
    tokenizer = tokenizer_of(directory)
    return acquainted(fitted(load_checkpoint(directory), len(tokenizer)), tokenizer)


def acquainted(decoder: Decoder, tokenizer: PreTrainedTokenizerBase) -> tuple[Decoder, PreTrainedTokenizerBase]:
    """Another model and tokenizer, which know the words of pictures as well; those given stay as they are."""
    words = with_words(tokenizer)
    return knowing(decoder, words, len(tokenizer)).train(), words


def tokenizer_of(directory: Path) -> PreTrainedTokenizerBase:
    """A version's tokenizer with its reserved tokens renamed; ids and text stay as they are."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    missing = [name for name in NAMES if name not in tokenizer.get_vocab()]
    if missing:
        raise LifecycleError(f"the tokenizer of {directory} has no {', '.join(missing)} in reserve: start from a model that was trained here")
    ids = tokenizer.convert_tokens_to_ids(list(NAMES))
    written = tokenizer.backend_tokenizer.to_str()
    for name, new in NAMES.items():
        written = written.replace(json.dumps(name), json.dumps(new))
    renamed = remade(tokenizer, written, NAMES, chat_template=tokenizer.chat_template.replace('"<|image|>"', '"<image>"'))
    assert renamed.convert_tokens_to_ids(list(NAMES.values())) == ids
    return renamed


def processor(tokenizer: PreTrainedTokenizerBase) -> Idefics3Processor:
    """Pictures to tensors and placeholders: 64 x 64 pixels, whatever their size was, and no tiles."""
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": SIZE},
        max_image_size={"longest_edge": SIZE},
        do_image_splitting=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics3Processor(pictures, tokenizer, image_seq_len=TOKENS, chat_template=tokenizer.chat_template)


def assemble(seer: Seer, config: SeeConfig, tokenizer: PreTrainedTokenizerBase) -> Idefics3ForConditionalGeneration:
    """transformers' model with these weights, ready to run (`eval`)."""
    text = seer.decoder.config.to_llama()
    ids: dict[str, Any] = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text.update({**ids, "eos_token_id": tokenizer.eos_token_id})
    whole = Idefics3Config(
        text_config=text,
        vision_config=vision_config(config),
        scale_factor=MERGE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=text.tie_word_embeddings,
        **ids,
    )
    model = Idefics3ForConditionalGeneration(whole)
    model.load_state_dict({name: weight.detach().cpu().float() for name, weight in seer.state_of_idefics3().items()})
    stops = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    model.generation_config = GenerationConfig(**ids, eos_token_id=list(dict.fromkeys(stops)), do_sample=False)
    return model.eval()


def save(seer: Seer, config: SeeConfig, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write what `AutoModelForImageTextToText` and `AutoProcessor` open."""
    assemble(seer, config, tokenizer).save_pretrained(directory)
    processor(tokenizer).save_pretrained(directory)
