"""Training tokens per second of CPU time: our loop and transformers' Trainer: same model, data, optimizer, dtype and threads.

Both predict the world's documents (pretraining) and conversations (SFT, the assistant's words learnt), once through, turn
by turn. The Trainer gets its best case: rows grouped by length, as many of them as make a batch of ours on average. Counted
are tokens that something follows. Seconds are those of the process on its one thread, so that what else the machine does weighs
less; the speed of its matrix products is measured the same way beside every turn.

    python benchmarks/train.py                  # both shapes, both stages, medians of 3 turns
    python benchmarks/train.py --turns 5
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from results import markdown, medians, publish
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from lifecycle.hardware import choose_arithmetic
from lifecycle.model.checkpoint import written_out
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.pretrain.data import tokenize
from lifecycle.sft import data as sft_data
from lifecycle.training import loop
from lifecycle.training.batches import Batching, Documents
from lifecycle.training.resume import Checkpoints
from lifecycle.world.config import WorldConfig
from lifecycle.world.conversations import sft_conversations
from lifecycle.world.corpus import documents

CPU = torch.device("cpu")
SHAPES = {
    "1M": ModelConfig(),
    "7M": ModelConfig(
        vocab_size=4096, hidden_size=256, num_layers=8, num_heads=8, num_kv_heads=4, intermediate_size=704, context_length=1024
    ),
}
BATCH = {"pretrain": 2048, "sft": 1024}
"""Tokens of an optimizer step."""
TOKENS = {"1M": 24_000, "7M": 10_000}
"""Tokens of a turn."""
LR, MATRIX_LR = 1e-3, 1e-2
TITLE = "Training beside transformers' Trainer"


@dataclass(frozen=True)
class Task:
    """What both train on."""

    documents: Documents
    tokenizer: PreTrainedTokenizerFast
    batch: int

    @property
    def tokens(self) -> int:
        """Tokens that something follows."""
        return int(self.documents.lengths.sum())

    def rows(self) -> list[dict[str, list[int]]]:
        """The same for transformers."""
        rows = []
        for start, end in zip(self.documents.starts, self.documents.ends, strict=True):
            ids = self.documents.tokens[start:end].astype(np.int64)
            learnt = np.ones(len(ids), bool) if self.documents.learnt is None else self.documents.learnt[start:end]
            rows.append({"input_ids": ids.tolist(), "labels": np.where(learnt, ids, -100).tolist()})
        return rows


def make_tasks(shape: str, directory: Path) -> dict[str, Task]:
    """Both stages' data, cut to `TOKENS`."""
    config = SHAPES[shape]
    texts = [one.text for one in documents(WorldConfig(documents=4000, max_sentences=5), random.Random(0))]
    random.Random(1).shuffle(texts)
    conversations, _ = sft_conversations(WorldConfig(conversations=1500))
    tokenizer = train_tokenizer(texts, config.vocab_size)
    found = {
        "pretrain": tokenize(Dataset.from_dict({"text": texts}), tokenizer, config.context_length, directory),
        "sft": sft_data.as_documents(sft_data.tokenize(conversations, tokenizer), 256),
    }
    return {stage: Task(first(whole, TOKENS[shape]), tokenizer, BATCH[stage]) for stage, whole in found.items()}


def first(whole: Documents, tokens: int) -> Documents:
    """The first documents, up to about so many tokens."""
    count = max(1, int(np.searchsorted(np.cumsum(whole.lengths), tokens)))
    return Documents(whole.tokens, whole.starts[:count], whole.ends[:count], whole.learnt)


def fresh(config: ModelConfig) -> tuple[LlamaForCausalLM, torch.optim.Optimizer]:
    """Random weights, and the optimizer that both use."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(config.to_llama())
    return model, MuonAdamW(model, lr=LR, matrix_lr=MATRIX_LR)


def ours(config: ModelConfig, task: Task) -> dict[str, float]:
    """One epoch in `lifecycle.training.loop`."""
    model, optimizer = fresh(config)
    with tempfile.TemporaryDirectory() as workspace:
        schedule = loop.Schedule(
            name="benchmark",
            tokens=task.tokens,
            batching=Batching(0, task.batch, 32),
            pieces=1,
            lr=LR,
            matrix_lr=MATRIX_LR,
            scale=lambda spent: 1 - spent,
            grad_clip=1.0,
            save_now=lambda step, seconds: False,
            dtype="auto",
            device="cpu",
        )
        progress = loop.train(written_out(model), optimizer, task.documents, schedule, Checkpoints(Path(workspace)), lambda record: None)
    return {"tokens/s": progress.tokens / progress.cpu_seconds, "loss": progress.loss, "flops": progress.flops / progress.tokens}


class Clock(TrainerCallback):
    """Seconds of CPU time from the first step's beginning to the last one's end."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.began = time.process_time()

    def on_train_end(self, args, state, control, **kwargs):
        self.seconds = time.process_time() - self.began


def theirs(config: ModelConfig, task: Task) -> dict[str, float]:
    """One epoch in transformers' Trainer."""
    model, optimizer = fresh(config)
    clock, rows = Clock(), task.rows()
    with tempfile.TemporaryDirectory() as workspace:
        arguments = TrainingArguments(
            workspace,
            num_train_epochs=1,
            per_device_train_batch_size=max(1, round(task.batch * len(rows) / task.tokens)),
            train_sampling_strategy="group_by_length",
            bf16=choose_arithmetic("auto", CPU) is torch.bfloat16,
            use_cpu=True,
            max_grad_norm=1.0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(
            model,
            arguments,
            DataCollatorForSeq2Seq(task.tokenizer),
            Dataset.from_list(rows),
            optimizers=(optimizer, None),
            callbacks=[clock],
        )
        result = trainer.train()
    return {"tokens/s": task.tokens / clock.seconds, "loss": result.training_loss}


def matmul_flops(dtype: torch.dtype, size: int = 768, count: int = 100) -> float:
    """Floating-point operations of a large matrix product per second of CPU time."""
    a = torch.randn(size, size).to(dtype)
    a @ a  # the first one sets things up
    began = time.process_time()
    for _ in range(count):
        a @ a
    return count * 2 * size**3 / (time.process_time() - began)


def compare(shape: str, stage: str, task: Task, turns: int) -> dict[str, float | str]:
    """Medians of both."""
    contenders: dict[str, Callable[[ModelConfig, Task], dict[str, float]]] = {"ours": ours, "trainer": theirs}
    small = Task(first(task.documents, 4 * task.batch), task.tokenizer, task.batch)
    for run in contenders.values():
        run(SHAPES[shape], small)  # threads, caches, imports
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    peaks = []
    for turn in range(turns):
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            runs[name].append(contenders[name](SHAPES[shape], task))
        peaks.append(matmul_flops(choose_arithmetic("auto", CPU)))
    found = {name: medians(measured) for name, measured in runs.items()}
    peak, flops = float(np.median(peaks)), found["ours"]["flops"]
    ratios = [one["tokens/s"] / other["tokens/s"] for one, other in zip(runs["ours"], runs["trainer"], strict=True)]
    return {
        "shape": shape,
        "stage": stage,
        "ours tokens/s": found["ours"]["tokens/s"],
        "Trainer tokens/s": found["trainer"]["tokens/s"],
        "ratio": float(np.median(ratios)),
        "ours MFU %": 100 * found["ours"]["tokens/s"] * flops / peak,
        "Trainer MFU %": 100 * found["trainer"]["tokens/s"] * flops / peak,
        "matmul GFLOP/s": peak / 1e9,
    }


def report(results: list[dict[str, float | str]], turns: int, json_file: Path | None) -> None:
    """Publish what is measured so far."""
    dtype = str(choose_arithmetic("auto", CPU)).removeprefix("torch.")
    text = f"""{markdown(results)}
Per second of CPU time on one thread. Medians of {turns} turns, turn about; the ratio is the median of each turn's. Arithmetic in
{dtype}, Muon and AdamW for both, batches of about {BATCH["pretrain"]:,} tokens (SFT {BATCH["sft"]:,}). The Trainer groups rows by length. MFU is the
part of the measured speed of a large matrix product that goes into the model's own arithmetic (PaLM's count); in SFT that counts
an output for every token, also where none is learnt.
"""
    publish("train", {"turns": turns, "dtype": dtype, "results": results}, TITLE, text, json_file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--stages", nargs="+", choices=BATCH, default=list(BATCH))
    parser.add_argument("--json", type=Path, help="where the measurement goes; default: beside this script")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as directory:
            tasks = make_tasks(shape, Path(directory))
            for stage in arguments.stages:
                results.append(compare(shape, stage, tasks[stage], arguments.turns))
                report(results, arguments.turns, arguments.json)


if __name__ == "__main__":
    main()
