"""Documents in one flat row of tokens are what each of them is alone: nothing leaks from one to the next, nothing is padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.model import kernels
from lifecycle.model.decoder import IGNORE, Decoder
from lifecycle.model.rows import LENGTH_STEP, ROW_COUNTS, Rows, inverse, pick

from .test_decoder import small

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 32), min_size=1, max_size=9)


def documents(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets, some of which are not learnt."""
    generator = torch.Generator().manual_seed(sum(lengths))
    tokens, targets = torch.randint(0, 64, (2, sum(lengths)), generator=generator)
    targets[torch.rand(len(targets), generator=generator) < 0.3] = IGNORE
    targets[0] = 7
    return tokens, targets


def scored(model: Decoder, parts: list[tuple[torch.Tensor, torch.Tensor, list[int]]]):
    """Summed loss, right answers and gradient of several calls."""
    model.zero_grad()
    results = [model.score(tokens, targets, torch.tensor(lengths)) for tokens, targets, lengths in parts]
    nats, right = (torch.stack(values).sum() for values in zip(*results, strict=True))
    nats.backward()
    return nats.detach(), right, {name: weight.grad.clone() for name, weight in model.named_parameters()}


@given(lengths=LENGTHS)
@settings(max_examples=20, deadline=None)
def test_a_flat_row_has_the_loss_and_gradient_of_each_document_alone(lengths):
    model = Decoder(small(), seed=1)
    tokens, targets = documents(lengths)
    apart = zip(tokens.split(lengths), targets.split(lengths), [[length] for length in lengths], strict=True)
    alone = [part for part in apart if (part[1] != IGNORE).any()]
    torch.testing.assert_close(scored(model, [(tokens, targets, lengths)]), scored(model, alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [[5, 6, 6, 30, 31], [16, 16, 16]])
def test_bfloat16_changes_only_rounding(lengths):
    model = Decoder(small(), seed=1)
    tokens, targets = documents(lengths)
    exact = scored(model, [(tokens, targets, lengths)])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = scored(model, [(tokens, targets, lengths)])
    torch.testing.assert_close(rounded[0], exact[0], rtol=1e-2, atol=0)
    for name, gradient in exact[2].items():
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), rounded[2][name].flatten(), dim=0) > 0.99


@given(lengths=LENGTHS)
@settings(deadline=None)
def test_groups_hold_every_token_once_in_few_shapes(lengths):
    rows = Rows.of(torch.tensor(lengths), CPU)
    assert rows.positions.tolist() == [position for length in lengths for position in range(length)]
    assert sum(group.tokens for group in rows.groups) == sum(lengths)
    assert all(group.longest % LENGTH_STEP == 0 and group.rows in ROW_COUNTS for group in rows.groups)
    x = torch.randn(sum(lengths), 2, 3)
    parts = x.split([group.tokens for group in rows.groups])
    assert all(torch.equal(group.collect(group.spread(part)), part) for group, part in zip(rows.groups, parts, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["whole", "some of wider rows", "turned"])
def test_kernels_pick_the_rows_that_torch_picks(monkeypatch, dtype, layout):
    x = torch.randn(9, 6).to(dtype)
    x = {"whole": x, "some of wider rows": torch.cat((x, x), 1)[:, 3:9], "turned": torch.randn(6, 9).to(dtype).t()}[layout]
    x.requires_grad_()
    index = torch.tensor([3, 9, 0, 8, 9, 1])  # 9: nobody's
    found = []
    for can_run in (kernels.can_run, lambda *tensors: False):
        monkeypatch.setattr(kernels, "can_run", can_run)
        y = pick(x, index, inverse(index, 9))
        found.append((y, *torch.autograd.grad(y.float().square().sum(), x)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
