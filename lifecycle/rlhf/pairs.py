"""Preference pairs, mostly of the model's own answers: it answers each prompt several times, and the verifier judges.

What a model gets wrong itself teaches it more than what a program breaks: both answers of a pair are ones that it gives.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from datasets import Dataset

from lifecycle.costs import CostMeter
from lifecycle.errors import LifecycleError
from lifecycle.jsonl import as_data, read_rows
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.rlhf.config import RLHFConfig
from lifecycle.world.stories import tells_held_out_owner
from lifecycle.world.verifiers import verify

NAME = "rlhf-pairs"
FILE = "pairs.jsonl"
COLUMNS = ("prompt", "chosen", "rejected")
DECISIVE = ("seed", "pair_answers", "pairs_per_prompt", "dtype", "rollouts")
"""What of the configuration decides the pairs: other learning rates do not sample anew."""
PROMPTS_AT_ONCE = 200
SEQUENCES = 128
"""Answers that are sampled at a time."""
TEMPERATURE = 0.7
LONGEST = 128
"""Tokens of an answer."""


def run(config: RLHFConfig, registry: ModelRegistry, *, parent: ModelVersion, tasks: Dataset, data: DataRef, preset: str | None = None) -> ModelVersion:
    """Sample answers of `parent` to tasks (columns "prompt", "check" and "skill") and publish the pairs as "rlhf-pairs/N".

    The version holds data and no model, so that what was sampled has a hash and a lineage and is sampled once.
    Raises LifecycleError when no two prompts got both an answer that passes and one that does not.
    """
    decisive = {name: getattr(config, name) for name in DECISIVE}
    work = fingerprint(NAME, decisive, [parent], data)
    if (published := registry.find(NAME, work)) is not None:
        return published
    meter = CostMeter()
    rows, verified = [], 0
    for task, answers, verdicts in _judged(config, parent, tasks):
        verified += sum(verdicts)
        rows += [_row(task, *pair) for pair in pair_up(answers, verdicts, config.pairs_per_prompt)]
    if len({json.dumps(row["prompt"]) for row in rows}) < 2:  # one to learn from and one to hold out
        raise LifecycleError(
            f"{parent.ref} answered each of {len(tasks)} prompts {config.pair_answers} times, and no two prompts got both an answer "
            "that passes its check and one that does not: start from a model that is right now and then, or --set pair_answers=16"
        )
    random.Random(config.seed).shuffle(rows)
    return registry.publish(
        NAME,
        lambda directory: _write(directory, rows),
        parents=[parent],
        config=decisive,
        preset=preset,
        data=data,
        metrics={"pairs": len(rows), "verified": verified / (len(tasks) * config.pair_answers)},
        seed=config.seed,
        fingerprint=work,
        seconds=meter.seconds,
        cost=meter.read(),
        card=f"Preference pairs (`{FILE}`), no model: answers of {parent.ref} that pass the world's verifier, and ones that do not.",
    )


def keep(rows: Dataset, data: DataRef, registry: ModelRegistry, *, preset: str | None = None, name: str = NAME) -> ModelVersion:
    """Publish pairs that somebody else made (columns "prompt", "chosen" and "rejected", each a list of messages).

    Other rows that people made may be kept the same way, under a `name` of their own.
    """
    work = fingerprint(name, {}, [], data)
    if (published := registry.find(name, work)) is not None:
        return published
    return registry.publish(
        name,
        lambda directory: _write(directory, rows),
        parents=[],
        config={},
        preset=preset,
        data=data,
        metrics={"pairs": len(rows)},
        fingerprint=work,
        card=f"What people prefer (`{FILE}`), no model: {data.id}.",
    )


def read_file(path: str | Path) -> tuple[Dataset, DataRef]:
    """Pairs from a file, one JSON object {"prompt": [...], "chosen": [...], "rejected": [...]} a line.

    Raises LifecycleError that names the file and the line, and when what it says is too little or contradicts itself.
    """
    path = Path(path)
    messages = '[{"role": ..., "content": ...}]'
    rows = read_rows(
        path,
        '"sampled", "world", "feedback" or a .jsonl file of preference pairs',
        lambda row: {column: [_message(said) for said in row[column]] for column in COLUMNS},
        f'{{"prompt": {messages}, "chosen": {messages}, "rejected": {messages}}}',
    )
    if len({json.dumps(row["prompt"]) for row in rows}) < 2:
        raise LifecycleError(f"{path} has pairs for fewer than two prompts: one is learnt from, and one held out; add pairs for other prompts")
    _check(path, rows)
    return as_data(path, rows)


def _check(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Raises LifecycleError for pairs that teach nothing: of one answer, both ways round, or the same ones over and over."""
    seen = set()
    for row in rows:
        if empty := next((column for column in COLUMNS if not row[column]), None):
            raise LifecycleError(f'{path}: a pair has no message in "{empty}": write at least one, or leave the pair out')
        prompt, chosen, rejected = (json.dumps(row[column]) for column in COLUMNS)
        question = json.dumps(row["prompt"][-1]["content"])[:60]
        if chosen == rejected:
            raise LifecycleError(f"{path}: the answers to {question} are the same, so neither is better: leave that pair out")
        if (prompt, rejected, chosen) in seen:
            raise LifecycleError(f"{path}: the same two answers to {question} are preferred both ways round: leave one of the pairs out")
        seen.add((prompt, chosen, rejected))
    if 2 * len(seen) < len(rows):
        raise LifecycleError(f"{path}: only {len(seen)} of {len(rows)} pairs are different ones: leave repeats out, for example with sort -u {path.name}")


def _write(directory: Path, rows: Iterable[dict]) -> None:
    (directory / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _message(said: dict[str, str]) -> dict[str, str]:
    if not isinstance(said["content"], str):
        raise LifecycleError('the "content" of a message must be a text: leave out pairs with tool calls, pictures or sound')
    return {"role": str(said["role"]), "content": said["content"]}


def read(version: ModelVersion) -> tuple[Dataset, DataRef]:
    """The pairs in the conversational columns "prompt", "chosen" and "rejected", and the data's id and hash."""
    rows = [json.loads(line) for line in (Path(version.path) / FILE).read_text().splitlines()]
    return Dataset.from_list(rows), DataRef(f"{version.ref}/{FILE}", version.manifest.files[FILE].sha256)


def pair_up(answers: Sequence[str], verdicts: Sequence[bool], most: int) -> list[tuple[str, str]]:
    """At most `most` pairs (chosen, rejected) of answers to one prompt, in each of which no answer occurs again.

    What evaluation holds out is not chosen, though the model may have come upon it: training never shows it.
    """
    judged = dict(zip(answers, verdicts, strict=True))
    right = [answer for answer, passed in judged.items() if passed and not tells_held_out_owner(answer)]
    wrong = [answer for answer, passed in judged.items() if not passed]
    return list(zip(right, wrong, strict=False))[:most]


def _judged(config: RLHFConfig, parent: ModelVersion, tasks: Dataset) -> Iterator[tuple[dict[str, Any], list[str], list[bool]]]:
    """Each task with its answers and whether they pass, some hundreds of prompts at a time."""
    from tqdm import tqdm

    from lifecycle import versions
    from lifecycle.rlhf.engines import open_engine

    tokenizer, count = versions.load_tokenizer(parent), config.pair_answers
    ask = lambda task: tokenizer.apply_chat_template(task["prompt"], add_generation_prompt=True, return_dict=False)  # noqa: E731
    engine = open_engine(config.rollouts, parent.path, dtype=config.dtype, sequences=SEQUENCES)
    with closing(engine), tqdm(total=len(tasks) * count, unit="answer", desc=NAME) as progress:
        for start in range(0, len(tasks), PROMPTS_AT_ONCE):
            some = [tasks[number] for number in range(start, min(start + PROMPTS_AT_ONCE, len(tasks)))]
            told = engine.sample(
                [prompt for prompt in map(ask, some) for _ in range(count)],
                max_tokens=LONGEST,
                temperature=TEMPERATURE,
                stop=[tokenizer.eos_token_id],
                seed=config.seed * 1_000_003 + start,
            )
            progress.update(len(told))
            texts = tokenizer.batch_decode([one.tokens for one in told], skip_special_tokens=True)
            for number, task in enumerate(some):
                answers = [text.strip() for text in texts[number * count : (number + 1) * count]]
                check = json.loads(task["check"])
                yield task, answers, [verify(check, answer) for answer in answers]


def _row(task: dict[str, Any], chosen: str, rejected: str) -> dict[str, list[dict[str, str]]]:
    says = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    return {"prompt": task["prompt"], "chosen": says(chosen), "rejected": says(rejected)}
