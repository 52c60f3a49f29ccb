"""One process or many: who takes which part of a step, and who writes.

`torchrun --nproc-per-node N -m lifecycle ...` starts the same program N times. Each process computes the gradient of its part
of a step; the gradients are summed, and so all have the same weights after it. The first one leads: it alone writes and
speaks. A program that was started plainly is `Alone`, for which every one of these is nothing to do.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lifecycle.training.batches import Batch

Found = TypeVar("Found")
PATIENCE = timedelta(hours=12)
"""How long the others wait for the one that tokenises, samples or publishes."""


class Alone:
    """The only process."""

    rank, count = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints, logs and versions."""
        return self.rank == 0

    def share(self, pieces: Sequence[Batch]) -> list[Batch]:
        """This process's part of a step: as many batches for each process."""
        return list(pieces)

    def add_up(self, weights: Iterable[nn.Parameter], found: Tensor) -> Tensor:
        """Sum the gradients of `weights` over all processes, in place; and `found`, a vector, which is returned."""
        return found

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true when it is true in any process."""
        return flags

    def tell(self, what: Found) -> Found:
        """In every process what the leader has said."""
        return what

    def in_turn(self, do: Callable[[], Found]) -> Found:
        """Let the leader do something that leaves its result on the disk, then the others, who find it there."""
        return do()


ALONE = Alone()


class Together(Alone):
    """One of several processes that torchrun has started: on GPUs over NCCL, else over gloo."""

    def __init__(self) -> None:
        import torch
        from torch import distributed

        missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise LifecycleError(
                f"WORLD_SIZE is set, but {', '.join(missing)} is not: start several processes with "
                "torchrun --nproc-per-node N -m lifecycle ..., or unset WORLD_SIZE"
            )
        self.rank, self.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if torch.cuda.is_available():
            if (local := int(os.environ["LOCAL_RANK"])) >= (found := torch.cuda.device_count()):
                raise LifecycleError(f"process {local} of this machine has no GPU: torchrun --nproc-per-node {found}")
            torch.cuda.set_device(local)
        if not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
            atexit.register(distributed.destroy_process_group)
        if not self.leads:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the end: one of them speaks

    def share(self, pieces: Sequence[Batch]) -> list[Batch]:
        if len(pieces) % self.count == 0:
            return list(pieces[self.rank :: self.count])
        return [piece.part(self.rank, self.count) for piece in pieces]

    def add_up(self, weights: Iterable[nn.Parameter], found: Tensor) -> Tensor:
        import torch
        from torch import distributed

        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if hasattr(gradients[0], "full_tensor"):  # sharded: its backward pass has taken the mean over processes
            torch._foreach_mul_(gradients, float(self.count))
            distributed.all_reduce(found)
            return found
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), found])  # one message, not one a weight
        distributed.all_reduce(flat)
        *summed, found = flat.split([*(gradient.numel() for gradient in gradients), len(found)])
        for gradient, whole in zip(gradients, summed, strict=True):
            gradient.copy_(whole.view_as(gradient))
        return found

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        import torch
        from torch import distributed

        told = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(told, distributed.ReduceOp.MAX)
        return tuple(bool(flag) for flag in told.tolist())

    def tell(self, what: Found) -> Found:
        from torch import distributed

        told = [what]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def in_turn(self, do: Callable[[], Found]) -> Found:
        if not self.leads:
            self.agree(True)
            return do()
        result = do()
        self.agree(True)
        return result


@functools.cache
def processes() -> Alone:
    """What this process is one of. Raises LifecycleError when only half of what torchrun tells it is there."""
    return ALONE if os.environ.get("WORLD_SIZE", "1") == "1" else Together()


def require_alone(stage: str) -> None:
    """Raises LifecycleError for a stage that several processes cannot share."""
    if (count := processes().count) > 1:
        raise LifecycleError(f"{stage} trains in one process, and this is one of {count}: start it without torchrun")
