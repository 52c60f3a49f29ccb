"""Run an operation again and again in child processes, each killed one file operation later, and look at what is left.

`python crashing.py publish|alias|collect ROOT` fails on the first broken promise and prints how many steps there were.
A process of its own because it forks: nothing with threads may be imported here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from lifecycle.registry import ModelRegistry

BELOW_ROOT = {"open", "os.mkdir", "os.rename", "os.chmod", "os.scandir", "os.listdir"}
ANYWHERE = {"fcntl.flock", "os.remove", "os.rmdir"}  # rmtree names files relative to an open directory
KILLED = 99


def die_at(step: int, root: Path) -> None:
    """Kill this process, without any clean-up, just before its `step`-th file operation below `root`."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == step:
            os._exit(KILLED)

    def hook(event: str, arguments: tuple) -> None:
        if event in ANYWHERE or event in BELOW_ROOT and str(arguments[0]).startswith(str(root)):
            tick()

    fsync = os.fsync
    os.fsync = lambda descriptor: (tick(), fsync(descriptor))  # has no audit event
    sys.addaudithook(hook)


def in_child(operation: Callable[[], object], step: int, root: Path) -> bool:
    """Whether the operation came to its end before its `step`-th file operation."""
    child = os.fork()
    if child == 0:
        die_at(step, root)
        operation()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), f"step {step}: the child failed with {code}"
    return code == 0


def write(directory: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (directory / name).write_text(name)


def sound(registry: ModelRegistry) -> None:
    for ref in registry.refs():
        assert registry.verify(ref) == [], registry.verify(ref)
        registry.lineage(ref)


def publish(registry: ModelRegistry) -> int:
    step = 0
    parent = registry.publish("pretrain", write)
    registry.publish("sft", write, parents=[parent])
    registry.set_alias("production", "sft/1")
    while True:
        step += 1
        before = len(registry.versions("sft"))
        done = in_child(lambda: registry.publish("sft", write, parents=[parent]), step, registry.root)
        after = [version.number for version in registry.versions("sft")]
        assert after in (list(range(1, before + 1)), list(range(1, before + 2))), after
        assert registry.resolve("production").ref == "sft/1"
        sound(registry)
        if done:
            assert len(after) == before + 1
            break
    assert registry.publish("sft", write).number == len(registry.versions("sft"))
    registry.gc(keep=1000)
    assert not list((registry.root / ".staging").iterdir())
    sound(registry)
    return step


def alias(registry: ModelRegistry) -> int:
    step = 0
    for _ in range(2):
        registry.publish("sft", write)
    registry.set_alias("production", "sft/1")
    while True:
        step += 1
        old, new = ("sft/1", "sft/2") if step % 2 else ("sft/2", "sft/1")
        done = in_child(lambda new=new: registry.set_alias("production", new), step, registry.root)
        assert registry.aliases()["production"] in (old, new)
        if done:
            assert registry.aliases()["production"] == new
            break
        registry.set_alias("production", new)
        assert registry.resolve("production").ref == new
    moves = registry.alias_moves()
    assert all(later.source == earlier.target for earlier, later in zip(moves, moves[1:], strict=False))
    return step


def collect(registry: ModelRegistry) -> int:
    step = 0
    parent = registry.publish("pretrain", write)
    registry.publish("pretrain", write)
    production = registry.publish("sft", write, parents=[parent])
    registry.set_alias("production", production.ref)
    while True:
        step += 1
        while len(registry.versions("sft")) < 3:
            registry.publish("sft", write)
        done = in_child(lambda: registry.gc(keep=1), step, registry.root)
        assert [version.ref for version in registry.lineage("production")] == ["sft/1", "pretrain/1"]
        sound(registry)
        if done:
            assert len(registry.versions("sft")) == 2
            break
        registry.gc(keep=1000)  # or what each crash leaves would give the next one more steps to make
    assert not list((registry.root / ".staging").iterdir())
    return step


if __name__ == "__main__":
    operation = {"publish": publish, "alias": alias, "collect": collect}[sys.argv[1]]
    print(operation(ModelRegistry(sys.argv[2])))
