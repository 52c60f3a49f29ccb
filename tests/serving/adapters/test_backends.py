"""A row with an adapter gets what PEFT computes for it, whoever else is in the step; a row without gets what it always got."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from lifecycle.errors import LifecycleError
from serving.application.ports import SequenceSlice
from serving.infrastructure.lora import LoraWeights, read_adapter
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.torch_backend import PackedTorchBackend
from tests.serving.backends.families import FAMILIES

from .conftest import save_adapter

BACKENDS = (PackedTorchBackend, PaddedTorchBackend)
TOKENS = {"plain": [5, 6, 7, 8, 9, 10], "first": [5, 6, 7, 8, 9, 11], "second": [40, 41, 42]}
OWNERS = {"plain": None, "first": "a", "second": "b"}
TABLES = {"plain": [0, 1], "first": [2, 3], "second": [4, 5]}


def load(version, kind=PackedTorchBackend):
    return kind(AutoModelForCausalLM.from_pretrained(version.path, dtype=torch.float32), num_blocks=8, block_size=4)


def prefill_and_decode(backend, names, owners=OWNERS) -> dict[str, torch.Tensor]:
    """Logits after every token: all but the last in one step, the last one in the next."""
    got = {}
    for cut in (slice(None, -1), slice(-1, None)):
        batch = []
        for name in names:
            tokens = TOKENS[name][cut]
            start = 0 if cut.start is None else len(TOKENS[name]) - 1
            batch.append(SequenceSlice(name, tokens, start, TABLES[name], len(tokens), adapter=owners[name]))
        logits = backend.execute(batch).split([item.num_logits for item in batch])
        for name, rows in zip(names, logits, strict=True):
            got[name] = torch.cat([got[name], rows]) if name in got else rows
    for name in names:
        backend.release(name)
    return got


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    """By id: the directory, and PEFT's model. "b" has everything that changes the scale of a layer."""
    root = tmp_path_factory.mktemp("adapters")
    settings = {"a": {}, "b": {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.*down_proj": 3}}}
    return {name: (root / name, save_adapter(base.path, root / name, seed, **more)) for seed, (name, more) in enumerate(settings.items())}


@pytest.fixture(scope="module", params=BACKENDS, ids=lambda kind: kind.__name__)
def backend(base, adapters, request):
    backend = load(base, request.param)
    for name, (directory, _) in adapters.items():
        backend.add_adapter(name, read_adapter(directory))
    return backend


@torch.inference_mode()
def test_each_sequence_of_a_mixed_batch_gets_the_logits_of_peft_alone_and_merged(backend, base, adapters):
    mixed = prefill_and_decode(backend, list(TOKENS))
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    for name, tokens in TOKENS.items():
        ids = torch.tensor([tokens])
        torch.testing.assert_close(mixed[name], prefill_and_decode(backend, [name])[name], atol=1e-5, rtol=1e-5)
        peft = plain if OWNERS[name] is None else adapters[OWNERS[name]][1]
        torch.testing.assert_close(mixed[name], peft(ids).logits[0], atol=1e-4, rtol=1e-4)
        if OWNERS[name] is not None:
            merged = copy.deepcopy(peft).merge_and_unload()
            torch.testing.assert_close(mixed[name], merged(ids).logits[0], atol=1e-3, rtol=1e-3)
            assert not torch.allclose(mixed[name], plain(ids).logits[0], atol=0.1), "the adapter does something"


def test_rows_without_an_adapter_are_the_same_bit_for_bit(backend, base):
    untouched = load(base, type(backend))
    nobody = dict.fromkeys(OWNERS)
    assert torch.equal(prefill_and_decode(backend, list(TOKENS))["plain"], prefill_and_decode(untouched, list(TOKENS), nobody)["plain"])


def test_a_removed_adapter_leaves_the_model_as_it_was(base, adapters):
    backend = load(base)
    before = prefill_and_decode(backend, ["plain"])["plain"]
    backend.add_adapter("a", read_adapter(adapters["a"][0]))
    backend.remove_adapter("a")
    assert torch.equal(prefill_and_decode(backend, ["plain"])["plain"], before)
    assert not any(module._forward_hooks for module in backend.model.modules())


@pytest.mark.parametrize(
    ("model", "targets", "kind"),
    [
        (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2)), ["c_attn", "c_fc"], BACKENDS[0]),
        (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2)), ["lm_head"], BACKENDS[0]),
        (lambda: MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2)), ["in_proj"], BACKENDS[1]),
    ],
    ids=["transposed linears", "the head", "recurrent"],
)
@torch.inference_mode()
def test_what_the_layers_are_does_not_matter(model, targets, kind, tmp_path):
    torch.manual_seed(0)
    plain = model().eval()
    adapted = get_peft_model(copy.deepcopy(plain), LoraConfig(target_modules=targets)).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)  # PEFT would put a head's own weights beside it
    backend = kind(plain, num_blocks=8, block_size=4)
    backend.add_adapter("a", read_adapter(tmp_path))
    mixed = prefill_and_decode(backend, ["plain", "first"])
    torch.testing.assert_close(mixed["first"], adapted(torch.tensor([TOKENS["first"]])).logits[0], atol=1e-4, rtol=1e-4)


def test_a_layer_whose_rows_are_not_the_tokens_of_the_step_is_found_at_load(base, adapters):
    """As in a mixture of experts, where each layer sees the tokens that were sent to it."""
    backend = load(base)
    mlp = backend.model.model.layers[0].mlp
    whole = mlp.forward
    mlp.forward = lambda x: torch.cat([whole(x[:, :1]), whole(x[:, 1:])], 1) if x.shape[1] > 1 else whole(x)
    with pytest.raises(LifecycleError, match="cannot batch this adapter.*merge it"):
        backend.add_adapter("a", read_adapter(adapters["a"][0]))
    assert not any(module._forward_hooks for module in backend.model.modules())


@pytest.mark.parametrize(("name", "fits"), [("qwen2_moe", True), ("deepseek_v3", True), ("falcon_h1", True), ("phimoe", False)])
def test_families_need_no_code_and_what_cannot_be_batched_is_refused(name, fits):
    """The check at load compares with each sequence alone; phimoe's router is a linear layer that returns several tensors."""
    family = next(family for family in FAMILIES if family.model_type == name)
    model = family.model()
    backend = (PackedTorchBackend if family.way == "packed" else PaddedTorchBackend)(model, num_blocks=8, block_size=4)
    linears = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    pairs = {
        name: (torch.randn(2, layer.in_features) * 0.2, torch.randn(layer.out_features, 2) * 0.2)
        for name, layer in linears.items()
        if layer is not model.get_output_embeddings()
    }
    if fits:
        backend.add_adapter("a", LoraWeights(pairs))
    else:
        with pytest.raises(LifecycleError, match="cannot batch this adapter"):
            backend.add_adapter("a", LoraWeights(pairs))


def test_an_adapter_of_another_model_is_refused_and_changes_nothing(base, tmp_path):
    backend = load(base)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2))
    get_peft_model(other, LoraConfig(target_modules=["c_attn"])).save_pretrained(tmp_path)
    with pytest.raises(LifecycleError, match="another model: this one has no layer transformer.h.0.attn.c_attn"):
        backend.add_adapter("a", read_adapter(tmp_path))
    save_adapter(base.path, tmp_path / "narrow")
    file = tmp_path / "narrow" / "adapter_model.safetensors"
    save_file({name: value[:, :8].contiguous() if "lora_A" in name else value for name, value in load_file(file).items()}, file)
    with pytest.raises(LifecycleError, match=r"wants model\.layers\.\d\.\S+ to be \d+ x 8, and here it is \d+ x \d+"):
        backend.add_adapter("a", read_adapter(tmp_path / "narrow"))
    assert not any(module._forward_hooks for module in backend.model.modules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, '"use_dora" is true, and only plain LoRA'),
        ({"bias": "all"}, '"bias" is "all"'),
        ({"modules_to_save": ["lm_head"]}, '"modules_to_save"'),
        ({"a_setting_of_tomorrow": 1}, '"a_setting_of_tomorrow"'),
        ({"init_lora_weights": "pissa"}, "belongs to a changed base"),
        ({"peft_type": "IA3"}, "only LoRA is supported, and it is IA3"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(adapters, tmp_path, changes, message):
    directory, _ = adapters["a"]
    config = json.loads((directory / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    (tmp_path / "adapter_model.safetensors").write_bytes((directory / "adapter_model.safetensors").read_bytes())
    with pytest.raises(LifecycleError, match=message):
        read_adapter(tmp_path)


def test_damaged_weights_are_refused(adapters, tmp_path):
    directory, _ = adapters["a"]
    (tmp_path / "adapter_config.json").write_bytes((directory / "adapter_config.json").read_bytes())
    with pytest.raises(LifecycleError, match="holds no LoRA adapter"):
        read_adapter(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes((directory / file.name).read_bytes()[:-10])
    with pytest.raises(LifecycleError, match="holds no LoRA adapter"):
        read_adapter(tmp_path)
    tensors = load_file(directory / file.name)
    first = next(name for name in tensors if "lora_A" in name)
    save_file({**tensors, first: tensors[first] * float("nan")}, file)
    with pytest.raises(LifecycleError, match="not numbers"):
        read_adapter(tmp_path)
    save_file({name: value for name, value in tensors.items() if name != first}, file)
    with pytest.raises(LifecycleError, match="do not belong together"):
        read_adapter(tmp_path)
