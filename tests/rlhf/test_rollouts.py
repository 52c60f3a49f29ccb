"""Rollouts: what an engine samples is what the policy would have said, with its log-probabilities and its newest weights."""

from contextlib import closing

import pytest
import torch
from sft.tiny import Start

from lifecycle import versions
from lifecycle.errors import LifecycleError
from lifecycle.rlhf import RLHFConfig
from lifecycle.rlhf.engines import open_engine
from lifecycle.rlhf.generate import GenerateRollouts
from serving.rollouts import EngineRollouts

PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 30, 31], [40] * 40, [11, 12]]
NOISE = {"fp32": 2e-4, "bf16": 0.08}  # nats
ENGINES = [EngineRollouts, GenerateRollouts]


def answers(engine, prompts=PROMPTS, *, temperature=0.7, stop=(3,), seed=1, max_tokens=24):
    return engine.sample(prompts, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)


def recomputed(model, prompt: list[int], tokens: list[int], temperature: float) -> torch.Tensor:
    """[tokens] log-probabilities by one forward pass over prompt and answer."""
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.fixture
def version(start: Start):
    return start.registry.load("sft/1")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("make", ENGINES)
def test_sampled_log_probabilities_are_those_of_one_forward_pass(version, make, dtype):
    model = versions.load_model(version).eval()
    with closing(make(version.path, dtype=dtype, sequences=4)) as engine:
        for prompt, answer in zip(PROMPTS, answers(engine), strict=True):
            assert len(answer.tokens) == len(answer.logprobs) > 0
            expected = recomputed(model, prompt, answer.tokens, 0.7)
            assert torch.tensor(answer.logprobs) == pytest.approx(expected, abs=NOISE[dtype])


@pytest.mark.parametrize("make", ENGINES)
def test_an_answer_keeps_the_token_that_ends_it_and_its_log_probability(version, make):
    with closing(make(version.path, dtype="fp32", sequences=4)) as engine:
        whole = answers(engine, temperature=0)
        stop = whole[0].tokens[5]
        ended = answers(engine, temperature=0, stop=[stop])[0]
    length = whole[0].tokens.index(stop) + 1
    assert ended.tokens == whole[0].tokens[:length]
    assert ended.logprobs == pytest.approx(whole[0].logprobs[:length], abs=1e-4)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_after_an_update_the_engine_says_what_the_new_model_says(start, version, dtype):
    other = versions.load_model(start.model("sft", seed=7)).eval()
    with closing(EngineRollouts(version.path, dtype=dtype, sequences=4)) as engine:
        before = answers(engine, temperature=0)
        engine.update_weights(other.state_dict())
        after = answers(engine, temperature=0)
        with closing(EngineRollouts(start.registry.load("sft/2").path, dtype=dtype, sequences=4)) as fresh:
            assert after == answers(fresh, temperature=0) != before
    for prompt, answer in zip(PROMPTS, after, strict=True):
        greedy = recomputed(other, prompt, answer.tokens, 1.0)
        assert torch.tensor(answer.logprobs) == pytest.approx(greedy, abs=NOISE[dtype])
    if dtype == "fp32":
        with closing(GenerateRollouts(version.path, dtype=dtype, sequences=4)) as generate:
            generate.update_weights(other.state_dict())
            assert [one.tokens for one in answers(generate, temperature=0)] == [one.tokens for one in after]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_prompts_in_a_batch_are_answered_as_alone_and_seeds_decide(version, dtype):
    with closing(EngineRollouts(version.path, dtype=dtype, sequences=4)) as engine:
        together = [one.tokens for one in answers(engine, temperature=0)]
        assert together == [answers(engine, [prompt], temperature=0)[0].tokens for prompt in PROMPTS]
        sampled = answers(engine)
        assert sampled == answers(engine) != answers(engine, seed=2)
        same = answers(engine, [PROMPTS[0]] * 4)
        assert len({tuple(one.tokens) for one in same}) > 1


def test_weights_that_are_not_numbers_are_named(version):
    weights = versions.load_model(version).state_dict()
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    with closing(EngineRollouts(version.path, dtype="bf16", sequences=4)) as engine:
        with pytest.raises(LifecycleError, match="model.norm.weight has values that are not numbers"):
            engine.update_weights(weights)
        assert answers(engine)


def test_a_prompt_that_does_not_fit_is_an_error_and_others_go_on(version):
    with closing(EngineRollouts(version.path, dtype="fp32", sequences=4)) as engine:
        with pytest.raises(LifecycleError, match="grpo_tokens"):
            answers(engine, [[5] * 600])
        assert answers(engine)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dtype": "fp16"}, 'unknown dtype "fp16": choose one of auto, fp32, bf16'),
        ({"grpo_temperature": 0.0}, "grpo_temperature must be above zero"),
        ({"dpo_lr": -1.0}, "dpo_lr must be above zero"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_trained(wrong, said):
    with pytest.raises(LifecycleError, match=said):
        RLHFConfig(**wrong)


def test_who_samples_can_be_chosen(version, monkeypatch):
    with pytest.raises(LifecycleError, match='unknown rollouts "vllm": choose one of auto, engine, generate'):
        RLHFConfig(rollouts="vllm")
    assert isinstance(open_engine("generate", version.path, dtype="fp32", sequences=1), GenerateRollouts)
    monkeypatch.setattr("lifecycle.rlhf.engines.entry_points", lambda **_: [])
    assert isinstance(open_engine("auto", version.path, dtype="fp32", sequences=1), GenerateRollouts)
    with pytest.raises(LifecycleError, match="no serving engine is installed"):
        open_engine("engine", version.path, dtype="fp32", sequences=1)
