"""The CUDA path without a GPU: dispatch on fake CUDA tensors, shapes on meta tensors, arguments against the documented contract."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from serving.application.ports import SequenceSlice
from serving.infrastructure import varlen
from serving.infrastructure.packed_step import PackedStep
from serving.infrastructure.paged_kv import LayerKV, PagedKV
from serving.infrastructure.torch_backend import PackedTorchBackend

from .families import FAMILIES
from .replay import BLOCK, BLOCKS, Replay

CUDA = torch.device("cuda")
SLICES = [SequenceSlice("a", [1], 5, [3, 1], 1), SequenceSlice("b", [1, 2, 3], 0, [2], 1)]


def fake(head=64, value_head=64, dtype=torch.bfloat16, device=CUDA, chunk=None):
    """A query of four heads and a layer of two key heads, without data."""
    query = torch.empty(1, 4, 4, head, dtype=dtype, device=device)
    keys, values = (torch.empty(2, 8, 4, size, dtype=dtype, device=device) for size in (head, value_head))
    return query, LayerKV(keys, values, None, chunk)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({}, True),
        ({"dtype": torch.float16, "head": 256, "value_head": 256}, True),
        ({"dtype": torch.float32}, False),
        ({"device": torch.device("cpu")}, False),
        ({"value_head": 32}, False),
        ({"head": 512, "value_head": 512}, False),
        ({"head": 20, "value_head": 20}, False),
        ({"chunk": 8}, False),
    ],
)
def test_the_kernel_gets_what_it_can_do_and_nothing_else(case, expected):
    with FakeTensorMode():
        assert varlen.applies(*fake(**case)) is expected


@pytest.mark.parametrize("page", [4, 256], ids=["in place", "copied"])
def test_the_kernel_accepts_the_shapes(page, monkeypatch):
    monkeypatch.setattr(varlen, "PAGE", page)
    meta = torch.device("meta")
    query, layer = fake(device=meta)
    step = PackedStep.pack(SLICES, PagedKV(8, 4), meta)
    assert varlen.attend(step, query, layer, 8, 0.125).shape == (4, 4, 64)


def reference(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size, enable_gqa, scale, **paging):
    """varlen_attn as its documentation says, one sequence and one query at a time."""
    table, used = paging["block_table"], paging["seqused_k"]
    assert paging["num_splits"] == 1 and window_size[1] == 0
    out = torch.empty(*query.shape[:2], value.shape[-1])
    for index in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[index] : cu_seq_q[index + 1]]
        if table is None:
            k, v = (t[cu_seq_k[index] : cu_seq_k[index + 1]] for t in (key, value))
        else:
            k, v = (t[table[index]].flatten(0, 1)[: used[index]] for t in (key, value))
        assert len(q) <= max_q and len(k) <= max_k and enable_gqa == (q.shape[1] != k.shape[1])
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        for row in range(len(q)):
            last = len(k) - len(q) + row
            first = 0 if window_size[0] < 0 else max(0, last - window_size[0])
            weights = torch.einsum("hd,lhd->hl", q[row], k[first : last + 1]).mul(scale).softmax(-1)
            out[cu_seq_q[index] + row] = torch.einsum("hl,lhd->hd", weights, v[first : last + 1])
    return out


@pytest.mark.parametrize("page", [BLOCK, 256], ids=["in place", "copied"])
@pytest.mark.parametrize("model_type", ["llama", "mistral", "gpt2"])
def test_its_arguments_mean_the_same_attention(model_type, page, monkeypatch):
    monkeypatch.setattr(varlen, "PAGE", page)
    monkeypatch.setattr(varlen, "varlen_attn", reference)
    monkeypatch.setattr(varlen, "applies", lambda query, layer: True)
    (family,) = (family for family in FAMILIES if family.model_type == model_type)
    model = family.model()
    backend = PackedTorchBackend(model, num_blocks=BLOCKS, block_size=BLOCK)
    assert Replay(model, backend, 0).run() < 1e-4
