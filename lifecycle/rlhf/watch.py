"""Is the policy still the model that it was? A reward that can be hacked shows in the KL divergence or in the length of answers."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

log = logging.getLogger(__name__)

WATCH = "watch.pt"
PATIENCE = 3
"""Steps in a row beyond a limit that make a runaway: a single batch may be an odd one."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Of a quantity that the trainer logs at each step; 0 is no limit."""

    name: str
    key: str
    most: float


class Watch(TrainerCallback):
    """Ends a run, or warns, when a quantity is beyond its limit for `PATIENCE` steps, and has the last good weights then.

    What a step logs is of the answers before its update: so good weights are those that a step within all limits began with.
    """

    def __init__(self, limits: list[Limit], on_runaway: str) -> None:
        self.limits = [limit for limit in limits if limit.most > 0]
        self.on_runaway = on_runaway
        self.ended: str | None = None
        """Why the run was ended, if it was."""
        self.good_step = 0
        """The last step within all limits: what it logged is of the last good weights."""
        self._beyond = 0
        self._good: dict[str, Any] = {}
        self._begun: dict[str, Any] = {}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._good = self._copy(model)
        if kept := self._kept(args, state):  # a run that goes on
            beyond, self.good_step, self._good = kept
            self._beyond = min(beyond, PATIENCE - 1)  # where it was ended, the next step ends it again

    def on_save(self, args, state, control, **kwargs):
        if self.limits and state.is_world_process_zero:
            kept = _beside(args, state)
            partial = kept.with_suffix(".partial")
            torch.save((self._beyond, self.good_step, self._good), partial)
            os.replace(partial, kept)  # half of it would be in the way of every later run

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self._begun = self._copy(model)

    def on_log(self, args, state, control, logs, **kwargs):
        beyond = [limit for limit in self.limits if logs.get(limit.key, 0.0) > limit.most]
        if not beyond:
            if any(limit.key in logs for limit in self.limits):
                self._good, self.good_step, self._beyond = self._begun, state.global_step, 0
            return control
        self._beyond += 1
        if self._beyond == PATIENCE:
            self._say(beyond[0], logs, state.global_step)
            if self.on_runaway == "stop":
                control.should_training_stop = True
        return control

    def recall(self, args: Any, state: Any) -> None:
        """What the checkpoint of a last step knows: no step comes after it that would end the run again."""
        if self.ended is None and self.on_runaway == "stop" and (kept := self._kept(args, state)):
            beyond, good_step, good = kept
            if beyond >= PATIENCE:
                self.good_step, self._good = good_step, good
                self.ended = f"beyond a limit for {PATIENCE} steps at step {state.global_step}"

    def restore(self, model: Any) -> None:
        """Give a model whose run was ended its last good weights."""
        if self.ended is not None:
            model.load_state_dict(self._good)

    def _say(self, limit: Limit, logs: dict[str, float], step: int) -> None:
        what = f"{limit.name} is {logs[limit.key]:.3g} at step {step}, beyond its limit of {limit.most:g} for {PATIENCE} steps"
        if self.on_runaway == "stop":
            self.ended = what
            log.warning("%s: the run ends with the weights from before", what)
        else:
            log.warning("%s: the reward may be hacked; look at the answers", what)

    def _kept(self, args: Any, state: Any) -> tuple[int, int, dict[str, Any]] | None:
        """What `on_save` wrote: steps beyond a limit, the last good step and its weights."""
        file = _beside(args, state)
        return torch.load(file, weights_only=True, map_location=args.device) if self.limits and file.is_file() else None

    def _copy(self, model: Any) -> dict[str, Any]:
        if not self.limits:
            return {}
        return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def _beside(args: Any, state: Any) -> Path:
    """Where a checkpoint keeps what the watch knows."""
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / WATCH
