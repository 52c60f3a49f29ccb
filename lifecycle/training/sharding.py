"""Weights, gradients and optimizer state spread over the processes (FSDP2), and put together again.

A process holds its part of each weight, and all of a block only while the block computes. See Zhao et al. (2023) and
`torch.distributed.fsdp.fully_shard`, which puts a `DTensor` in the place of each parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lifecycle.model.decoder import Decoder

if TYPE_CHECKING:
    from lifecycle.model.optimizer import MuonAdamW


def shard(model: Decoder) -> None:
    """Spread a model over all processes, in place; before its optimizer is made."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(next(model.parameters()).device.type, (torch.distributed.get_world_size(),))
    for block in model.model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "score")  # the loop's way in


def sharded(model: Decoder) -> bool:
    """Whether the model was spread over processes."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)  # a parameter may be whole for the moment


def whole(value: Any) -> Any:
    """The same with each sharded tensor put together; all processes have to ask for it. Dicts and lists are gone through."""
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def gathered(model: Decoder) -> Decoder:
    """The model itself, or where it is sharded one with the same weights that is not."""
    if not sharded(model):
        return model
    alone = Decoder(model.config)
    alone.load_state_dict(whole(model.state_dict()))
    return alone.to(next(model.parameters()).device)


def load(model: Decoder, optimizer: MuonAdamW, state: dict[str, Any]) -> None:
    """Load whole states, "model" and "optimizer", into what may be sharded."""
    like = model.state_dict()
    model.load_state_dict({name: _part(tensor, like[name]) for name, tensor in state["model"].items()})
    if sharded(model):
        for name, one in (("muon", optimizer.muon), ("adamw", optimizer.adamw)):
            weights = [weight for group in one.param_groups for weight in group["params"]]
            for number, kept in state["optimizer"][name]["state"].items():
                kept.update({key: _part(tensor, weights[number]) for key, tensor in kept.items()})
    optimizer.load_state_dict(state["optimizer"])


def _part(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole tensor: cut where a weight is cut, whose averages may lie stacked in front of each other."""
    from torch.distributed.tensor import Shard, distribute_tensor

    if not hasattr(like, "full_tensor") or tensor.dim() == 0:
        return tensor
    stacked = tensor.dim() - like.dim()
    placements = [Shard(placement.dim + stacked) for placement in like.placements]
    return distribute_tensor(tensor.to(like.device), like.device_mesh, placements, src_data_rank=None)
