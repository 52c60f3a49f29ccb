"""Over HTTP an answer is the same with speculative decoding: text, stop strings, logprobs, usage."""

from __future__ import annotations

import pytest

from serving.presentation.app import create_app

PROMPT = "the quick brown fox the quick brown"


@pytest.fixture(scope="module")
def ask(catalog, registry):
    """Posts a completion to a server without and to one with; the draft model is the model itself, so nearly all is right."""
    from serving.composition import ServingConfig, build_catalog

    knobs = {"dtype": "float32", "kv_memory_mb": 16, "num_blocks": 512, "speculative_max_seqs": 8}
    config = ServingConfig(**knobs, speculative="draft", draft_model="production", num_speculative_tokens=6)
    guessing = build_catalog(["tiny/1"], config, registry)
    clients = [create_app(one).test_client() for one in (catalog, guessing)]

    def post(**body):
        answers = [client.post("/v1/completions", json={"prompt": PROMPT, **body}).json for client in clients]
        return [{"choices": answer["choices"], "usage": answer["usage"]} for answer in answers]

    yield post
    stats = guessing.get("tiny").engine.stats()
    assert stats.accepted_tokens > 0.8 * stats.draft_tokens > 0
    for model in guessing.all():
        model.engine.close()


def without_scores(answer):
    return [{**choice, "logprobs": None} for choice in answer["choices"]]


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0},
        {"temperature": 1, "seed": 3, "n": 3},
        {"temperature": 1, "seed": 4, "logprobs": 2},
        {"temperature": 0.8, "seed": 5, "repetition_penalty": 1.2, "frequency_penalty": 0.3, "min_tokens": 20},
    ],
)
def test_texts_and_usage_are_the_same(ask, body):
    plain, guessed = ask(max_tokens=40, **body)
    assert without_scores(guessed) == without_scores(plain)
    assert guessed["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]
    if "logprobs" in body:
        one, other = (answer["choices"][0]["logprobs"] for answer in (guessed, plain))
        assert one["tokens"] == other["tokens"] and one["text_offset"] == other["text_offset"]
        assert one["token_logprobs"] == pytest.approx(other["token_logprobs"], abs=1e-4)


def test_a_stop_string_inside_of_several_tokens_ends_the_answer_at_the_same_token(ask):
    text = ask(max_tokens=40, temperature=1, seed=7)[0]["choices"][0]["text"]
    for at in (1, 5, 9, 14):
        plain, guessed = ask(max_tokens=40, temperature=1, seed=7, stop=text[at : at + 2])
        assert guessed["choices"] == plain["choices"]
        assert guessed["choices"][0]["finish_reason"] == "stop"
        assert guessed["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"] < 40
