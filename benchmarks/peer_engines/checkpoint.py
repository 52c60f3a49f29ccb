"""The checkpoint that all engines get: random weights, and a tokenizer in which every id is a piece of text."""

from __future__ import annotations

import json
from pathlib import Path

from models import SHAPES, random_checkpoint

from lifecycle.deploy.gguf_file import write_gguf
from lifecycle.errors import LifecycleError
from peer_engines.contender import Unavailable


def full_checkpoint(shape: str, directory: Path) -> Path:
    """Like `random_checkpoint`, with as many tokens as embeddings: servers turn what random weights say into text.

    The tokens that no training found are words that no merge leads to.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    target = directory / "full" / shape
    if (target / "tokenizer.json").exists():
        return target
    origin = random_checkpoint(shape, directory)
    trained = AutoTokenizer.from_pretrained(origin)
    described = json.loads(trained.backend_tokenizer.to_str())
    vocabulary = described["model"]["vocab"]
    for number in range(len(trained), SHAPES[shape]["vocab_size"]):
        vocabulary[f"Ġw{number}"] = number
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (target / name).unlink(missing_ok=True)
        (target / name).hardlink_to(origin / name)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        bos_token=trained.bos_token,
        eos_token=trained.eos_token,
        pad_token=trained.pad_token,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(target)
    return target


def as_gguf(checkpoint: Path, target: Path, precision: str) -> Path:
    """`target`, written if it is not there already. Raises Unavailable."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_gguf(checkpoint, target, precision)
        except LifecycleError as error:
            raise Unavailable(str(error)) from None
    return target
