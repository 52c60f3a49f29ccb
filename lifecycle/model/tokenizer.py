"""Byte-level BPE: any text becomes tokens and comes back byte for byte.

Control tokens are reserved from the first tokenizer on, so that no later stage has to resize an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError

END_OF_TEXT = "<|endoftext|>"
"""Id 0: begins, separates and ends documents."""
PAD = "<|pad|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

CONTROL_TOKENS = (END_OF_TEXT, PAD, TURN_START, TURN_END)
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""One id each, but part of the text: decoding keeps them, for a parser to find (as Qwen does)."""
MEDIA_TOKENS = ("<|image|>", "<|video|>", "<|audio|>")
RESERVED_TOKENS = tuple(f"<|reserved_{index}|>" for index in range(3))
ALL_RESERVED = CONTROL_TOKENS + MARKUP_TOKENS + MEDIA_TOKENS + RESERVED_TOKENS
"""In the order of their ids, from 0."""

ROLES = "system\nuser\nassistant\ntool\n"
"""As the chat template writes them."""

SMALLEST_VOCABULARY = len(ALL_RESERVED) + 256
TEMPLATE_FILE = Path(__file__).parent / "chat_template.jinja"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens, with the chat template attached.

    Digits are split one by one, so that numbers look alike whatever their length. The same texts in the same order
    give the same tokenizer. It holds fewer than `vocab_size` tokens when the texts run out of pairs that repeat.
    Raises LifecycleError when `vocab_size` has no room for the 256 bytes and the reserved tokens.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise LifecycleError(
            f"vocab_size {vocab_size} is too small: {SMALLEST_VOCABULARY} are taken by bytes and reserved tokens"
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        _beside_roles(texts),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=list(ALL_RESERVED),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # The trainer marks all of them special, which hides them when text is decoded; markup has to stay visible.
    bpe.add_tokens([AddedToken(token, normalized=False, special=False) for token in MARKUP_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        extra_special_tokens=[*CONTROL_TOKENS[2:], *MEDIA_TOKENS, *RESERVED_TOKENS],
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE_FILE.read_text(),
    )


def _beside_roles(texts: Iterable[str]) -> Iterator[str]:
    """Every turn of a chat begins with a role: text without any chat is counted as if it had them, or each is cut into bytes."""
    for text in texts:
        yield text
        yield ROLES


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a version directory."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)
