"""PaddedTorchBackend: whatever happens to a cache, the tokens are known and the answer is right."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lifecycle.errors import LifecycleError
from serving.application.ports import SequenceSlice
from serving.domain.config import SchedulerConfig
from serving.infrastructure import loading, pool_size, torch_loading
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.torch_backend import PackedTorchBackend

from .families import FAMILIES
from .replay import BLOCK, BLOCKS, Replay, alone

BY_NAME = {family.model_type: family for family in FAMILIES}


@pytest.fixture(params=["bamba", "bloom", "mistral"])
def model(request):
    return BY_NAME[request.param].model()


def backend_of(model) -> PaddedTorchBackend:
    return PaddedTorchBackend(model, num_blocks=BLOCKS, block_size=BLOCK)


def decode(backend, ids, tokens, start):
    return backend.execute([SequenceSlice(name, tokens[name][start : start + 1], start, [0], 1) for name in ids])


TOKENS = {name: [(7 * i + 3 * ord(name)) % 61 for i in range(12)] for name in "abc"}


def prefilled(model):
    backend = backend_of(model)
    backend.execute([SequenceSlice(name, tokens[:6], 0, [0], 1) for name, tokens in TOKENS.items()])
    return backend


def close(logits, model, ids, start):
    expected = torch.stack([alone(model, TOKENS[name][: start + 1])[-1] for name in ids])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_any_family_can_be_forced(model):
    """Also one with a sliding window, which packing could serve."""
    for seed in range(2):
        assert Replay(model, backend_of(model), seed).run() < 1e-4


def test_a_step_run_twice_gives_the_same(model):
    backend = prefilled(model)
    close(decode(backend, "abc", TOKENS, 6), model, "abc", 6)
    close(decode(backend, "abc", TOKENS, 6), model, "abc", 6)
    close(decode(backend, "cab", TOKENS, 7), model, "cab", 7)


def test_a_step_back_costs_only_its_own_tokens_where_the_cache_can_be_cut(model):
    backend = prefilled(model)
    assert backend.can_rewind is (model.config.model_type != "bamba")
    wrong = {name: [*tokens[:6], 1, 2, 3] for name, tokens in TOKENS.items()}
    backend.execute([SequenceSlice(name, wrong[name][6:9], 6, [0], 3) for name in "abc"])
    computed = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: computed.append(args[0].numel())
    )
    for name in "ab":
        logits = backend.execute([SequenceSlice(name, TOKENS[name][6:8], 6, [0], 2)])
        torch.testing.assert_close(logits, alone(model, TOKENS[name][:8])[6:], atol=1e-4, rtol=0)
    hook.remove()
    assert not backend.can_rewind or computed == [2, 8, 2, 8], "a step, and what it is compared with"
    close(decode(backend, "abc", TOKENS, 6), model, "abc", 6)


def test_a_step_that_fails_half_way_can_be_run_again(model):
    backend = prefilled(model)
    decode(backend, "abc", TOKENS, 6)
    calls = []

    def breaks(module, args, output):
        calls.append(1)
        raise RuntimeError("no memory")

    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-2]
    hook = last.register_forward_hook(breaks)
    for _ in range(2):  # the second time while it makes its caches anew
        with pytest.raises(RuntimeError, match="no memory"):
            decode(backend, "abc", TOKENS, 7)
    hook.remove()
    assert len(calls) == 2
    close(decode(backend, "b", TOKENS, 7), model, "b", 7)
    close(decode(backend, "abc", TOKENS, 7), model, "abc", 7)


def test_released_sequences_leave_nothing_behind(model):
    backend = prefilled(model)
    decode(backend, "abc", TOKENS, 6)
    backend.release("b")
    close(decode(backend, "ac", TOKENS, 7), model, "ac", 7)
    for name in ("a", "b", "c", "never heard of"):
        backend.release(name)
    assert not backend._states and backend._cohort is None
    with pytest.raises(ValueError, match="only 0 tokens were computed"):
        decode(backend, "a", TOKENS, 8)


def test_new_weights_make_old_caches_void(model):
    backend = prefilled(model)
    decode(backend, "ab", TOKENS, 6)
    backend.update_weights({name: value * 0.9 for name, value in model.state_dict().items()})
    close(decode(backend, "abc", TOKENS, 6), model, "abc", 6)


def test_the_backend_can_be_asked_for_and_the_choice_is_logged(caplog):
    config = ServingConfig(num_blocks=8, block_size=BLOCK)
    with caplog.at_level("INFO", "serving"):
        assert isinstance(torch_loading.choose_backend(BY_NAME["llama"].model(), config), PackedTorchBackend)
        assert isinstance(torch_loading.choose_backend(BY_NAME["bloom"].model(), config), PaddedTorchBackend)
        padded = ServingConfig(num_blocks=8, block_size=BLOCK, backend="padded")
        assert isinstance(torch_loading.choose_backend(BY_NAME["llama"].model(), padded), PaddedTorchBackend)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("serving")]
    assert [message.split(" for ")[0] for message in messages] == ["packed backend", "padded backend", "padded backend"]
    assert "without AttentionInterface" in messages[1] and messages[2].endswith("asked for")
    with pytest.raises(LifecycleError, match="auto, native, packed, padded"):
        ServingConfig(backend="pakced")


def test_a_model_that_cannot_be_packed_as_asked_is_named(tmp_path):
    config = AutoConfig.for_model("bloom", vocab_size=61, hidden_size=32, n_layer=1, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(LifecycleError, match="BloomForCausalLM.*--backend auto"):
        loading.load_backend(tmp_path, ServingConfig(backend="packed", device="cpu", dtype="float32"))


def test_the_pool_follows_free_memory_and_costs_nothing_until_used(monkeypatch):
    monkeypatch.setattr(pool_size, "free_bytes", lambda device: 8 * 2**20)
    model = BY_NAME["llama"].model()
    backend = torch_loading.choose_backend(model, ServingConfig(block_size=BLOCK, device="cpu"))
    per_block = 2 * 2 * 2 * 8 * BLOCK * 4  # layers x (keys, values) x heads x head size x tokens x bytes
    assert backend.num_blocks == 4 * 2**20 // per_block
    backend.execute([SequenceSlice("a", [1, 2], 0, [3], 1)])
    assert backend._kv.allocated_bytes <= 64 * per_block
    far = backend.num_blocks - 1
    before = backend.execute([SequenceSlice("a", [5], 2, [3], 1)])
    backend.execute([SequenceSlice("b", [1, 2, 5], 0, [far], 1)])
    assert backend._kv.allocated_bytes == backend.num_blocks * per_block
    torch.testing.assert_close(backend.execute([SequenceSlice("a", [5], 2, [3], 1)]), before)
    assert SchedulerConfig().kv_memory_mb is None


def test_free_memory_is_what_the_container_leaves(monkeypatch, tmp_path):
    cpu = torch.device("cpu")
    assert pool_size.free_bytes(cpu) > 2**20
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(pool_size, "CGROUP", tmp_path)
    assert pool_size.free_bytes(cpu) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert pool_size.free_bytes(cpu) > 2_000_000
