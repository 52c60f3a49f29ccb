"""How well the model predicts text it never trains on, and how it writes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from lifecycle.model.decoder import Decoder
from lifecycle.pretrain.config import PretrainConfig
from lifecycle.pretrain.data import tokenize
from lifecycle.training.batches import Batch, Batching, Documents, collate, plan_epoch

PROMPT_TOKENS, SAMPLE_TOKENS = 12, 64


@dataclass(frozen=True)
class Validation:
    """Held-out documents, in batches that never change."""

    documents: Documents
    batches: tuple[Batch, ...]
    bytes: int
    """UTF-8 bytes of the documents' text."""

    @classmethod
    def prepare(
        cls, dataset: Dataset, tokenizer: PreTrainedTokenizerFast, config: PretrainConfig, directory: Path
    ) -> Validation:
        """Documents spread evenly over `dataset`, up to about `eval_tokens` tokens of them; all of their text counts."""
        spread = dataset.select_columns("text").select(_spread(dataset, tokenizer, config.eval_tokens))
        documents = tokenize(spread, tokenizer, config.model.context_length, directory)
        capacity = config.batch_tokens // config.grad_accumulation
        plan = plan_epoch(documents.lengths, Batching(config.seed, capacity, config.bucket_batches, in_order=True), epoch=0)
        size = sum(len(text.encode()) for text in spread["text"])
        return cls(documents, tuple(collate(documents, members) for members in plan), size)

    @torch.inference_mode()
    def measure(self, model: Decoder, dtype: torch.dtype) -> dict[str, float]:
        """Mean loss in nats per token, and bits per byte of text, which compares across tokenizers."""
        device = next(model.parameters()).device
        nats, tokens = 0.0, 0
        for batch in self.batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
                nats += model.score(batch.tokens.to(device), batch.targets.to(device), batch.lengths)[0].item()
            tokens += batch.count
        return {"validation_loss": nats / tokens, "bits_per_byte": nats / math.log(2) / self.bytes}

    def sample(self, model: Decoder, tokenizer: PreTrainedTokenizerFast, seed: int) -> str:
        """How the model goes on after the beginning of some document: "beginning | continuation"."""
        device = next(model.parameters()).device
        piece = seed % len(self.documents.lengths)
        start, end = self.documents.starts[piece], self.documents.ends[piece]
        beginning = self.documents.tokens[start : min(start + PROMPT_TOKENS, end - 1)].astype(np.int64)
        with torch.compiler.set_stance("force_eager"):  # one short text is not worth compiling for
            tokens = model.generate(
                torch.from_numpy(beginning)[None].to(device),
                SAMPLE_TOKENS,
                temperature=0.8,
                stop=[tokenizer.eos_token_id],
                generator=torch.Generator(device).manual_seed(seed),
            )[0]
        prompt, continuation = tokens[: len(beginning)], tokens[len(beginning) :]
        return " | ".join(tokenizer.decode(part, skip_special_tokens=True) for part in (prompt, continuation))


def _spread(dataset: Dataset, tokenizer: PreTrainedTokenizerFast, tokens: int) -> list[int]:
    """Evenly spaced documents that hold about `tokens` tokens, judged by the length of the first few."""
    few = dataset[: min(len(dataset), 64)]["text"]
    mean = sum(len(ids) + 1 for ids in tokenizer(few, add_special_tokens=False)["input_ids"]) / len(few)
    stride = max(1, math.ceil(len(dataset) * mean / tokens))
    return list(range(0, len(dataset), stride))
