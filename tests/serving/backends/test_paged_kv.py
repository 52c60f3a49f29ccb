"""Keys and values grow with the blocks in use, whole or not at all."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from serving.infrastructure import paged_kv
from serving.infrastructure.paged_kv import FIRST_BLOCKS, PagedKV


def test_where_memory_runs_out_there_is_room_for_as_many_blocks_as_before(monkeypatch):
    store, modules = PagedKV(1000, 4), [nn.Identity() for _ in range(3)]
    key = torch.randn(1, 2, 5, 8)
    layers = [store.layer(module, key, key, None) for module in modules]
    for layer in layers:
        layer.write(torch.arange(5), key[0], key[0])
    before = [layer.keys.clone() for layer in layers]
    grown, calls = paged_kv._grown, iter(range(1000))

    def scarce(blocks, capacity):
        if next(calls) == 3:
            raise RuntimeError("out of memory")
        return grown(blocks, capacity)

    monkeypatch.setattr(paged_kv, "_grown", scarce)
    with pytest.raises(RuntimeError):
        store.reserve(FIRST_BLOCKS)
    store.reserve(FIRST_BLOCKS)
    last = torch.tensor([FIRST_BLOCKS * 4])
    for layer, old in zip(layers, before, strict=True):
        assert torch.equal(layer.keys[:, :FIRST_BLOCKS], old)
        layer.write(last, key[0, :, :1], key[0, :, :1])
        assert torch.equal(layer.gather(torch.tensor([FIRST_BLOCKS]), 1)[0][:, 0, 0], key[0, :, 0])
