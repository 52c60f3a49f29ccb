"""The limit of a machine, against arithmetic by hand and a model's own parameters."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from lifecycle.planning.roofline import Machine, Work

MACHINE = Machine(bytes_per_s=1000.0, flop_per_s=8000.0)


def test_work_counts_every_matrix_of_the_model_once():
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    model = AutoModelForCausalLM.from_config(config)
    matrices = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    work = Work.of(config)
    assert work.layer_weights + work.head_weights == sum(weight.numel() for weight in matrices)
    assert work.head_weights == 50 * 32
    assert work.kv_bytes == 3 * 2 * 2 * 16 * 2


def test_memory_limits_one_sequence_and_arithmetic_many():
    work = Work(layer_weights=80, head_weights=20, kv_bytes=2)
    assert work.decode_limit(MACHINE, batch=1, context=0) == pytest.approx(1 / 0.2)  # 200 bytes
    assert work.decode_limit(MACHINE, batch=8, context=0) == pytest.approx(8 / 0.2)  # fetched once for all
    assert work.decode_limit(MACHINE, batch=80, context=0) == pytest.approx(80 / 2.0)  # 16,000 operations
    assert work.decode_limit(MACHINE, batch=1, context=50) == pytest.approx(1 / 0.3)  # and 100 bytes of keys and values
    assert work.prefill_limit(MACHINE) == pytest.approx(50)


def test_smaller_weights_help_where_memory_is_the_limit():
    both = [Work(80, 20, 0, bytes_per_weight=size) for size in (2.0, 1.0)]
    assert both[1].decode_limit(MACHINE, 1, 0) == 2 * both[0].decode_limit(MACHINE, 1, 0)
    assert both[1].decode_limit(MACHINE, 80, 0) == both[0].decode_limit(MACHINE, 80, 0)
