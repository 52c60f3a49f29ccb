"""Embeddings: the mean of the last hidden states, the same alone and in a batch, as floats and as base64."""

import math
from types import SimpleNamespace

import httpx
import openai
import pytest
import torch

from lifecycle.model.loading import load_causal_lm
from serving.application.embedding import EmbedTexts
from serving.domain.errors import InvalidRequest
from serving.infrastructure import embedder

TEXTS = ["the quick brown fox", "the", "jumps over the lazy dog. " * 20]


def vectors(client, texts, **options):
    answer = client.embeddings.create(model="tiny", input=texts, **options)
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


def test_a_vector_is_the_mean_of_the_hidden_states(client, registry, catalog):
    (got,) = vectors(client, TEXTS[0])
    model = load_causal_lm(registry.load("tiny/1").path, dtype=torch.float32)
    tokens = torch.tensor([catalog.get("tiny").tokenizer.encode(TEXTS[0])])
    with torch.no_grad():
        expected = model.model(tokens).last_hidden_state[0].mean(0)
    assert got == pytest.approx((expected / expected.norm()).tolist(), abs=1e-5)
    assert math.hypot(*got) == pytest.approx(1)


def test_an_adapter_has_no_vectors_of_its_own():
    pirate = SimpleNamespace(name="pirate", adapter="pirate#1", parent="tiny", embed=lambda texts: texts)
    with pytest.raises(InvalidRequest, match='"pirate" is an adapter: ask its base, tiny'):
        EmbedTexts(["ahoy"]).tokens(pirate)


def test_batched_is_alone_in_every_form(client, monkeypatch):
    monkeypatch.setattr(embedder, "STEP_TOKENS", 64)
    alone = [vectors(client, text)[0] for text in TEXTS]
    for got in (vectors(client, TEXTS), vectors(client, TEXTS, encoding_format="float")):
        for one, other in zip(alone, got, strict=True):
            assert other == pytest.approx(one, abs=1e-5)


def test_who_would_wait_long_for_others_is_refused(client, catalog, monkeypatch):
    monkeypatch.setattr(embedder, "PATIENCE", 0.05)
    with catalog.get("tiny").embed._lock, pytest.raises(openai.RateLimitError, match="other texts are being read"):
        vectors(client.with_options(max_retries=0), TEXTS[0])
    assert vectors(client, TEXTS[0])


def test_token_ids_are_texts(client, catalog):
    ids = [catalog.get("tiny").tokenizer.encode(text) for text in TEXTS]
    assert vectors(client, ids) == vectors(client, TEXTS)
    answer = client.embeddings.create(model="tiny", input=ids)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, ids))


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("input", {}),
        ("input", {"input": ""}),
        ("input", {"input": []}),
        ("input", {"input": ["x", ""]}),
        ("input", {"input": ["x"] * 257}),
        ("input", {"input": [999_999]}),
        ("input", {"input": {"a": 1}}),
        ("input", {"input": "the quick " * 20_000}),
        ("input", {"input": ["the quick brown fox " * 1500] * 16}),
        ("dimensions", {"input": "x", "dimensions": 5}),
        ("dimensions", {"input": "x", "dimensions": 0}),
        ("encoding_format", {"input": "x", "encoding_format": "int8"}),
        ("model", {"input": "x", "model": "gpt-9"}),
        ("inputs", {"input": "x", "inputs": "x"}),
    ],
    ids=lambda value: str(value)[:50],
)
def test_mistakes_name_the_field(server, param, body):
    answer = httpx.post(server.url + "/v1/embeddings", json=body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param


def test_the_models_own_dimension_is_accepted(client):
    assert len(vectors(client, "the", dimensions=32)[0]) == 32


def test_the_official_client_raises_for_a_mistake(client):
    with pytest.raises(openai.BadRequestError):
        vectors(client, "the", dimensions=31)
