"""Log-probabilities of prompts are the model's own, whatever becomes of the request on its way."""

import pytest
import torch

from serving.domain.events import Finished, PromptScored
from serving.infrastructure.padded_backend import PaddedTorchBackend

from .support import PATIENCE, POLICIES, prompts, request, running


def answer(stream):
    """Scores of the prompt, then the answer's tokens."""
    scores, tokens, end = [], [], None
    while end is None:
        for event in stream.next(PATIENCE):
            if isinstance(event, PromptScored):
                assert not tokens
                scores += event.logprobs
            elif isinstance(event, Finished):
                end = event
            else:
                tokens += event.tokens
    assert end.reason == "length"
    return scores, tokens


def expected(model, tokens):
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].log_softmax(-1)


def check(model, asked, answers):
    for prompt, (scores, _) in zip(asked, answers, strict=True):
        assert [score.token for score in scores] == prompt[1:]
        for row, score in zip(expected(model, prompt), scores, strict=False):
            assert score.logprob == pytest.approx(row[score.token].item(), abs=1e-4)
            assert [token for token, _ in score.top] == row.topk(2).indices.tolist()


@pytest.mark.parametrize("policy", POLICIES)
def test_they_are_those_of_the_model_in_chunks_batches_and_after_preemption(model, policy):
    asked = prompts(31, 8, longest=40)
    with running(model, policy=policy, num_blocks=24) as engine:
        engine.pause()
        streams = [engine.submit(request(i, prompt, prompt_logprobs=2)) for i, prompt in enumerate(asked)]
        engine.resume()
        answers = [answer(stream) for stream in streams]
    check(model, asked, answers)


def test_a_cached_prefix_leaves_no_hole_and_the_answer_is_the_same(model):
    prompt = prompts(32, 1, longest=30)[0] * 2
    with running(model) as engine:
        plain = answer(engine.submit(request("a", prompt)))
        scored = [answer(engine.submit(request(name, prompt, prompt_logprobs=2))) for name in ("b", "c")]
    assert plain == ([], scored[0][1])
    check(model, [prompt, prompt], scored)


def test_a_prompt_of_one_token_has_none(model):
    with running(model) as engine:
        assert answer(engine.submit(request("a", [5], prompt_logprobs=2, max_tokens=1)))[0] == []


def test_neighbours_that_ask_for_none_get_what_they_get_alone(model):
    asked = prompts(33, 6)
    with running(model) as engine:
        alone = [answer(engine.submit(request(f"alone {i}", prompt))) for i, prompt in enumerate(asked)]
        streams = [
            engine.submit(request(i, prompt, prompt_logprobs=1 if i % 2 else None)) for i, prompt in enumerate(asked)
        ]
        together = [answer(stream) for stream in streams]
    assert [tokens for _, tokens in together] == [tokens for _, tokens in alone]


def test_the_padded_backend_computes_them_too(model):
    asked = prompts(34, 3, longest=20)
    model.set_attn_implementation("eager")
    backend = PaddedTorchBackend(model, num_blocks=64, block_size=4, max_num_seqs=4)
    with running(model, backend=backend, prefix_caching=False) as engine:
        streams = [engine.submit(request(i, prompt, prompt_logprobs=2)) for i, prompt in enumerate(asked)]
        answers = [answer(stream) for stream in streams]
    check(model, asked, answers)
