"""Muon and AdamW share the parameters between them, one rate per group, and stop and go on exactly."""

import copy

import pytest
import torch

import lifecycle.model.optimizer as optimizers
from lifecycle.model.decoder import Decoder
from lifecycle.model.optimizer import Muon, MuonAdamW, is_hidden_matrix
from lifecycle.model.presets import ModelConfig


def build(tie: bool = True) -> tuple[Decoder, MuonAdamW]:
    shape = ModelConfig(
        vocab_size=64, hidden_size=32, num_layers=2, intermediate_size=48, context_length=32, tie_embeddings=tie
    )
    model = Decoder(shape, seed=1)
    return model, MuonAdamW(model, lr=3e-3, matrix_lr=0.02, weight_decay=0.1)


def learn(model: Decoder, optimizer: MuonAdamW, steps: int, seed: int) -> float:
    tokens = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(seed))
    for _ in range(steps):
        loss = model(tokens, tokens.roll(-1, 1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("tie", [True, False])
def test_every_parameter_belongs_to_exactly_one_of_the_two(tie):
    model, optimizer = build(tie)
    owned = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))
    muons = {id(weight) for group in optimizer.muon.param_groups for weight in group["params"]}
    names = {name for name, weight in model.named_parameters() if id(weight) in muons}
    assert names == {name for name, weight in model.named_parameters() if is_hidden_matrix(name, weight)}
    assert names == {name for name, _ in model.named_parameters() if "proj" in name}


def test_it_learns():
    model, optimizer = build()
    first = learn(model, optimizer, 1, seed=0)
    assert learn(model, optimizer, 15, seed=0) < first - 1


def test_matrices_alone_are_learnt():
    layer = torch.nn.Linear(8, 4, bias=False)
    before, optimizer = layer.weight.detach().clone(), MuonAdamW(layer, lr=1e-3, matrix_lr=0.01)
    layer(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert not torch.equal(layer.weight, before)


def test_a_rate_written_into_its_groups_is_the_rate_it_uses():
    model, optimizer = build()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    learn(model, optimizer, 2, seed=0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_saved_and_loaded_it_goes_on_exactly():
    model, optimizer = build()
    learn(model, optimizer, 3, seed=0)
    other, fresh = build()
    other.load_state_dict(model.state_dict())
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as a file would give it: nothing shared
    for pair in ((model, optimizer), (other, fresh)):
        for group in pair[1].param_groups:
            group["lr"] *= 0.5  # after loading, too, the groups are the ones that count
        learn(*pair, 3, seed=1)
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())


def test_batched_muon_is_torchs_muon():
    torch.manual_seed(0)
    shapes = [(8, 8), (24, 8), (8, 24), (8, 8)]
    ours = [torch.randn(shape).requires_grad_() for shape in shapes]
    theirs = [weight.detach().clone().requires_grad_() for weight in ours]
    pair = Muon(ours, lr=0.02, weight_decay=0.1), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, ns_steps=4)
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in pair:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=5e-3, rtol=0)  # products in bf16, rounded in another order


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_update_is_orthogonal_in_the_numbers_that_the_hardware_multiplies(monkeypatch, dtype):
    monkeypatch.setattr(optimizers, "choose_arithmetic", lambda name, device: dtype)
    torch.manual_seed(0)
    for update in optimizers.orthogonal(torch.randn(3, 16, 48), torch.randn(2, 48, 16)):
        assert update.dtype is dtype
        sizes = torch.linalg.svdvals(update.float())
        assert sizes.min() > 0.6 and sizes.max() < 1.3


@pytest.mark.parametrize("steps", [1, 4])
def test_what_x_x_transposed_tells_is_all_that_the_iteration_needs(steps):
    """Singular values down to a ten-thousandth of the largest."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(3, 32, 96), full_matrices=False)
    x = u @ torch.diag_embed(torch.logspace(0, -4, 32).expand(3, 32)) @ v
    x /= x.norm(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(optimizers._by_gram(x, steps), optimizers._directly(x.double(), steps).float(), atol=2e-5, rtol=0)
