"""What ends a run that hacks its reward, and that a run which goes on knows what it knew."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lifecycle.rlhf.watch import PATIENCE, Limit, Watch

LIMIT = Limit("the KL divergence", "kl", 0.5)


class Run:
    """A model whose one weight is the number of steps, and a trainer's side of the callbacks."""

    def __init__(self, directory):
        self.args = SimpleNamespace(output_dir=str(directory), device="cpu")
        self.state = SimpleNamespace(global_step=0, is_world_process_zero=True)
        self.control = SimpleNamespace(should_training_stop=False)
        self.model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.model.weight)

    def begin(self, watch: Watch) -> Watch:
        watch.on_train_begin(self.args, self.state, self.control, model=self.model)
        return watch

    def step(self, watch: Watch, kl: float) -> bool:
        watch.on_step_begin(self.args, self.state, self.control, model=self.model)
        self.state.global_step += 1
        with torch.no_grad():
            self.model.weight += 1
        watch.on_log(self.args, self.state, self.control, {"kl": kl})
        return self.control.should_training_stop

    def save(self, watch: Watch) -> None:
        (Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}").mkdir(parents=True)
        watch.on_save(self.args, self.state, self.control)


@pytest.mark.parametrize("resumed", [False, True])
def test_the_last_good_weights_are_those_from_before_the_limit(tmp_path, resumed):
    run = Run(tmp_path)
    watch = run.begin(Watch([LIMIT], "stop"))
    assert not run.step(watch, kl=0.1)  # began with 0
    assert not run.step(watch, kl=0.2)  # began with 1
    for _ in range(PATIENCE - 1):
        assert not run.step(watch, kl=0.9)
    if resumed:
        run.save(watch)
        watch = run.begin(Watch([LIMIT], "stop"))
    assert run.step(watch, kl=0.9) and watch.ended
    watch.restore(run.model)
    assert run.model.weight.item() == 1
    assert watch.good_step == 2, "what it logged is of these weights"


def test_one_odd_step_ends_nothing(tmp_path):
    run = Run(tmp_path)
    watch = run.begin(Watch([LIMIT], "stop"))
    for kl in (0.9, 0.9, 0.1, 0.9, 0.9):
        assert not run.step(watch, kl)


def test_without_a_limit_nothing_is_kept(tmp_path):
    run = Run(tmp_path)
    watch = run.begin(Watch([Limit("the KL divergence", "kl", 0.0)], "stop"))
    run.step(watch, kl=9.0)
    watch.on_save(run.args, run.state, run.control)
    assert not list(tmp_path.iterdir()) and watch.ended is None


def test_a_run_that_its_last_step_ended_stays_ended_when_it_is_only_to_be_published(tmp_path):
    run = Run(tmp_path)
    watch = run.begin(Watch([LIMIT], "stop"))
    run.step(watch, kl=0.1)  # began with 0
    for _ in range(PATIENCE):
        run.step(watch, kl=0.9)
    run.save(watch)
    for on_runaway in ("warn", "stop"):
        again = Watch([LIMIT], on_runaway)
        again.recall(run.args, run.state)
        again.restore(run.model)
        assert bool(again.ended) == (on_runaway == "stop")
    assert run.model.weight.item() == 0 and again.good_step == 1
