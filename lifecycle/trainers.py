"""What the stages that train with TRL share: quiet arguments, an interruptible and resumable run, a published checkpoint."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lifecycle import adapters, versions
from lifecycle.costs import CostMeter
from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_arithmetic, choose_device
from lifecycle.registry import ModelRegistry, ModelVersion
from lifecycle.training.processes import processes
from lifecycle.training.resume import Interruption, between_steps, keep_arithmetic

COSTS = "costs.json"


def share(batch: int, name: str) -> int:
    """Each process's part of a batch, as TRL's trainers want it. Raises LifecycleError for one that cannot be shared out evenly."""
    if batch % (count := processes().count):
        raise LifecycleError(f"{name} is {batch}, which {count} processes cannot share out evenly: --set {name}={-(-batch // count) * count}")
    return batch // count


def arguments(workspace: Path, seed: int, dtype: str, save_every: int) -> dict[str, Any]:
    """Arguments that every TRL trainer of ours gets: no tracker, no hub, one checkpoint to resume from."""
    keep_arithmetic(workspace)
    return {
        "output_dir": str(workspace / "checkpoints"),
        "seed": seed,
        "data_seed": seed,
        "bf16": choose_arithmetic(dtype, choose_device("auto")) is torch.bfloat16,
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
    """Ctrl-C asks for a checkpoint and the end, and not in the middle of a step; a loss that is lost ends the run. Costs are kept with a checkpoint."""

    def __init__(self, interrupted: Interruption, meter: CostMeter) -> None:
        self.interrupted, self.meter = interrupted, meter
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

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.meter.keep()


def _finite(entry: dict[str, Any]) -> bool:
    return math.isfinite(float(entry.get("loss", 0.0)))


def meter(workspace: Path) -> CostMeter:
    """What a run in this workspace costs, its interruptions included."""
    return CostMeter(workspace / COSTS)


def _last_checkpoint(directory: Path) -> str | None:
    """The newest checkpoint that was written to its end: the trainer's state comes last."""
    whole = [path.parent for path in directory.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def train(trainer: Trainer, meter: CostMeter, rate: str = "lr") -> list[dict[str, Any]]:
    """Run a trainer to its end and return its log; goes on from the last checkpoint in its output directory.

    `rate`: what its learning rate is called in the settings. Ctrl-C saves a checkpoint and raises KeyboardInterrupt. Raises LifecycleError
    when the loss is not finite.
    """
    with between_steps() as interrupted, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stop = _StopBetweenSteps(interrupted, meter)
        trainer.add_callback(stop)
        checkpoint = _last_checkpoint(Path(trainer.args.output_dir))
        state = checkpoint and TrainerState.load_from_json(f"{checkpoint}/{TRAINER_STATE_NAME}")
        if state and state.global_step >= state.max_steps:  # all but published; transformers would take one more step
            trainer._load_from_checkpoint(checkpoint)
            trainer.state = state
        else:
            trainer.train(resume_from_checkpoint=checkpoint)
        if stop.stopped or interrupted.requested:
            raise KeyboardInterrupt
    history = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    lost = next((entry for entry in history if not _finite(entry)), None)
    if lost or not all(weight.isfinite().all() for weight in trainer.model.parameters()):
        what = f"the loss is {lost['loss']} at step {lost['step']}" if lost else "the weights are not finite after the last step"
        raise LifecycleError(f"{what}; nothing was published: try a lower --set {rate}=")
    return history


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
    model, tokenizer, history = trained
    parents = adapters.parents_of(model, parents)

    def publish() -> ModelVersion:
        version = registry.publish(
            name,
            lambda directory: versions.write(directory, model, tokenizer, parents[0], history),
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


def last(history: list[dict[str, Any]], key: str) -> float | None:
    """The last logged value of a quantity; None when it was never logged."""
    return next((float(entry[key]) for entry in reversed(history) if key in entry), None)
