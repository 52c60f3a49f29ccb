"""What torchrun starts in each process: `worker.py ROOT STAGE [key=value ...]`.

stop=RANK:STEP presses Ctrl-C in that process. `worker.py ROOT arithmetic RANK` asks what each process trains in.
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch
from pretrain.conftest import CONFIG, documents

from lifecycle import hardware
from lifecycle.config import override
from lifecycle.model import tokenizer_stage
from lifecycle.registry import DataRef, ModelRegistry
from lifecycle.training.processes import processes
from lifecycle.training.resume import keep_arithmetic


def pretrain(registry, settings, on_step):
    from lifecycle.pretrain import run

    dataset, data = documents(300, seed=1), DataRef("test", "0")
    learn = tokenizer_stage.TokenizerConfig(vocab_size=300)
    words = processes().in_turn(lambda: tokenizer_stage.run(learn, registry, dataset["text"], data))
    validation = documents(20, seed=2)
    return run(override(CONFIG, settings), registry, dataset=dataset, validation=validation, data=data, tokenizer=words, on_step=on_step)


def sft(registry, settings, on_step):
    from sft.tiny import WORLD
    from test_pipeline import MINIATURE

    from lifecycle.sft import run
    from lifecycle.world.conversations import sft_conversations

    conversations, data = sft_conversations(WORLD)
    config = override(MINIATURE.sft, settings)
    return run(config, registry, parent=registry.load("pretrain/1"), conversations=conversations, data=data, on_step=on_step)


def rlhf(registry, settings, on_step):
    from sft.tiny import WORLD
    from test_pipeline import MINIATURE

    from lifecycle.rlhf import pairs, run
    from lifecycle.world.tasks import verified_prompts

    pairs.verify = lambda check, answer: len(answer) % 2 == 0  # a random model is never right
    tasks, data = verified_prompts(WORLD)
    config = dataclasses.replace(MINIATURE.rlhf, rollouts="generate")
    return run(override(config, settings), registry, parent=registry.load("sft/1"), tasks=tasks, data=data)


def arithmetic(root, rank):
    """Leave what this process trains in, in a file with its number; products are faster in bf16 in process `rank` alone."""
    own = os.environ["RANK"]
    hardware._cpu_has_bf16, hardware._cpu_prefers_bf16 = lambda: True, lambda: own == rank
    keep_arithmetic(root)
    (root / own).write_text(str(hardware.choose_arithmetic("auto", torch.device("cpu"))))


def main(root: str, stage: str, *words: str) -> str | None:
    if stage == "arithmetic":
        return arithmetic(Path(root), *words)
    settings = dict(word.split("=") for word in words)
    rank, step = map(int, settings.pop("stop", "-1:-1").split(":"))

    def on_step(record):
        if (int(os.environ.get("RANK", "0")), record.step) == (rank, step):
            signal.raise_signal(signal.SIGINT)

    version = {"pretrain": pretrain, "sft": sft, "rlhf": rlhf}[stage](ModelRegistry(Path(root)), settings, on_step)
    print(version.ref)
    return version.ref


if __name__ == "__main__":
    main(*sys.argv[1:])
