"""What the stages that train with TRL share: quiet arguments, an interruptible and resumable run, a published checkpoint."""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when the libraries below are imported

import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
)
from transformers.trainer import TRAINER_STATE_NAME  # noqa: E402
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR  # noqa: E402

from lifecycle.costs import CostMeter  # noqa: E402
from lifecycle.errors import LifecycleError  # noqa: E402
from lifecycle.hardware import choose_device, choose_dtype  # noqa: E402
from lifecycle.model.directory import is_adapter, is_int8  # noqa: E402
from lifecycle.registry import ModelRegistry, ModelVersion  # noqa: E402
from lifecycle.training.processes import processes  # noqa: E402
from lifecycle.training.resume import Interruption, between_steps  # noqa: E402

LOG = "training_log.jsonl"
END_OF_TURN = "<|im_end|>"


def load(version: ModelVersion) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A version's model, in fp32 and in training mode, and its tokenizer, for which a turn's end is the end."""
    return load_model(version), load_tokenizer(version)


def load_model(version: ModelVersion) -> PreTrainedModel:
    """A version's model, in fp32 and in training mode; an adapter on its base, of which the adapter alone is trained."""
    from lifecycle import adapters

    if is_adapter(version.path):
        return adapters.put_on(load_model(adapters.base_of(version)), version)
    require_floats(version)
    return AutoModelForCausalLM.from_pretrained(version.path, dtype=torch.float32).train()


def load_tokenizer(version: ModelVersion) -> PreTrainedTokenizerBase:
    """A version's tokenizer, for which a turn's end is the end; of an adapter its base's."""
    from lifecycle import adapters

    tokenizer = AutoTokenizer.from_pretrained(adapters.base_of(version).path)
    if END_OF_TURN in tokenizer.get_vocab():
        tokenizer.eos_token = END_OF_TURN
    return tokenizer


def require_stage(version: ModelVersion, stage: str, allowed: tuple[str, ...]) -> None:
    """Raises LifecycleError when a stage is run on a parent that it cannot start from."""
    require_floats(version)
    if version.manifest.stage not in allowed:
        raise LifecycleError(
            f"{stage} starts from a version of stage {' or '.join(allowed)}, but {version.ref} is of stage "
            f'"{version.manifest.stage}": use --parent {allowed[0]}@latest'
        )


def require_floats(version: ModelVersion) -> None:
    """Raises LifecycleError for a version in int8: what was rounded away cannot be trained or rounded again."""
    if is_int8(version.path):
        parents = version.manifest.parents
        instead = f"start from its parent {parents[0].ref} instead: --parent {parents[0].ref}" if parents else "import it in floating point"
        raise LifecycleError(f"{version.ref} holds int8 weights, and only weights in floating point can be trained or deployed: {instead}")


def share(batch: int, name: str) -> int:
    """Each process's part of a batch, as TRL's trainers want it. Raises LifecycleError for one that cannot be shared out evenly."""
    if batch % (count := processes().count):
        raise LifecycleError(f"{name} is {batch}, which {count} processes cannot share out evenly: --set {name}={-(-batch // count) * count}")
    return batch // count


def arguments(workspace: Path, seed: int, dtype: str, save_every: int) -> dict[str, Any]:
    """Arguments that every TRL trainer of ours gets: no tracker, no hub, one checkpoint to resume from."""
    return {
        "output_dir": str(workspace / "checkpoints"),
        "seed": seed,
        "data_seed": seed,
        "bf16": choose_dtype(dtype, choose_device("auto")) is torch.bfloat16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,  # TRL's default computes every forward twice to save memory that we have
        "report_to": [],
        "logging_steps": 10,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # otherwise a loss that is not a number is logged as 0
        "save_steps": save_every,
        "save_total_limit": 1,
        "dataloader_pin_memory": False,
        "disable_tqdm": False,
    }


class _StopBetweenSteps(TrainerCallback):
    """Ctrl-C asks for a checkpoint and the end, and not in the middle of a step; a loss that is lost ends the run."""

    def __init__(self, interrupted: Interruption) -> None:
        self.interrupted = interrupted
        self.stopped = False
        """Whether somebody pressed Ctrl-C, in this or in another process."""

    def on_step_end(self, args, state, control, **kwargs):
        (self.stopped,) = processes().agree(self.interrupted.requested)
        if self.stopped:
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args, state, control, logs, **kwargs):
        if not _finite(logs):
            control.should_training_stop = True
        return control


def _finite(entry: dict[str, Any]) -> bool:
    return math.isfinite(float(entry.get("loss", 0.0)))


def _last_checkpoint(directory: Path) -> str | None:
    """The newest checkpoint that was written to its end: the trainer's state comes last."""
    whole = [path.parent for path in directory.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def train(trainer: Trainer) -> list[dict[str, Any]]:
    """Run a trainer to its end and return its log; goes on from the last checkpoint in its output directory.

    Ctrl-C saves a checkpoint and raises KeyboardInterrupt. Raises LifecycleError when the loss is not finite.
    """
    with between_steps() as interrupted, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stop = _StopBetweenSteps(interrupted)
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=_last_checkpoint(Path(trainer.args.output_dir)))
        if stop.stopped or interrupted.requested:
            raise KeyboardInterrupt
    history = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    lost = next((entry for entry in history if not _finite(entry)), None)
    if lost or not all(weight.isfinite().all() for weight in trainer.model.parameters()):
        what = f"the loss is {lost['loss']} at step {lost['step']}" if lost else "the weights are not finite after the last step"
        raise LifecycleError(f"{what}; nothing was published: try a lower --set lr=")
    return history


def write(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parent: ModelVersion, history: list) -> None:
    """Fill a version directory: weights, tokenizer, the parent's generation config, the training log.

    Of an adapter what PEFT saves and the log; `parent` is its base then.
    """
    if isinstance(model, PeftModel):
        from lifecycle import adapters

        adapters.write(directory, model, parent)
        return write_log(directory, history)
    # generate() during evaluation may have changed the model's own; the parent's is what was meant.
    if (Path(parent.path) / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(parent.path)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    write_log(directory, history)


def publish(
    registry: ModelRegistry,
    name: str,
    trained: tuple[PreTrainedModel, PreTrainedTokenizerBase, list[dict[str, Any]]],
    meter: CostMeter,
    *,
    parents: list[ModelVersion],
    config: Any,
    fingerprint: str,
    **facts: Any,
) -> ModelVersion:
    """Publish model, tokenizer and log as "name/N" with what they cost, and give the workspace back.

    The first of `parents` is what training started from, before which an adapter's base is put; `facts` are what `ModelRegistry.publish` takes besides.
    """
    from lifecycle import adapters

    model, tokenizer, history = trained
    parents = adapters.parents_of(model, parents)

    def publish() -> ModelVersion:
        version = registry.publish(
            name,
            lambda directory: write(directory, model, tokenizer, parents[0], history),
            parents=parents,
            config=config,
            seed=config.seed,
            fingerprint=fingerprint,
            seconds=meter.seconds,
            cost=meter.read(tokens=last(history, "num_tokens")),
            **facts,
        )
        registry.discard_workspace(name, fingerprint)
        return version

    return processes().in_turn(lambda: registry.find(name, fingerprint) or publish())


def write_log(directory: Path, history: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    (directory / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in history))


def read_log(version: ModelVersion) -> list[dict[str, Any]]:
    """The training log of a published version, one entry a logged step."""
    return [json.loads(line) for line in (Path(version.path) / LOG).read_text().splitlines()]


def last(history: list[dict[str, Any]], key: str) -> float | None:
    """The last logged value of a quantity; None when it was never logged."""
    return next((float(entry[key]) for entry in reversed(history) if key in entry), None)
