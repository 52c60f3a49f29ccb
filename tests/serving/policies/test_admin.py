"""/admin/policy on a real engine under load: the policy changes, the answers do not."""

from __future__ import annotations

import threading

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lifecycle.model.tokenizer import train_tokenizer
from serving.composition import ServingConfig, build_engine
from serving.infrastructure.catalog import Catalog
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

from .support import POLICIES

PATH = "/admin/policy"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A tiny model of random weights, saved, loaded and running."""
    path = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(3)
    tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 4, 300)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    knobs = {"dtype": "float32", "device": "cpu", "max_num_seqs": 4, "max_num_batched_tokens": 32, "block_size": 4}
    model = build_engine(path, ServingConfig(num_blocks=96, expected_output=1, **knobs), name="tiny")
    yield model
    model.engine.close()


@pytest.fixture
def client(served):
    return create_app(Catalog([served])).test_client()


def complete(client, prompt: str) -> str:
    body = {"prompt": prompt, "max_tokens": 48, "min_tokens": 48, "temperature": 0}
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.json
    assert response.json["usage"]["completion_tokens"] == 48
    return response.json["choices"][0]["text"]


def test_the_policies_and_the_current_one_are_shown(client):
    answer = client.get(PATH).json
    assert set(POLICIES) <= set(answer["policies"])
    assert answer["models"][0]["model"] == "tiny" and answer["models"][0]["policy"] in POLICIES


def test_swapping_under_load_loses_no_request_and_changes_no_answer(served, client):
    prompts = ["the fox " * (1 + index % 5) + str(index) for index in range(24)]
    expected = [complete(client, prompt) for prompt in prompts]
    got: dict[int, str] = {}

    def ask(which: int) -> None:
        got[which] = complete(client.application.test_client(), prompts[which])

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(len(prompts))]
    for thread in threads:
        thread.start()
    swapped = []
    while any(thread.is_alive() for thread in threads) or len(swapped) < len(POLICIES):
        policy = POLICIES[len(swapped) % len(POLICIES)]
        response = client.post(PATH, json={"policy": policy, "model": "tiny"})
        assert response.status_code == 200 and response.json["models"] == [{"model": "tiny", "policy": policy}]
        swapped.append(policy)
    for thread in threads:
        thread.join()
    assert [got.get(which) for which in range(len(prompts))] == expected
    assert served.engine.call(lambda: served.engine.stats().kv_used) == 0


@pytest.mark.parametrize(
    "body, param, message",
    [
        ({"policy": "fare"}, "policy", 'Did you mean "fair"?'),
        ({"policy": 7}, "policy", "a string"),
        ({}, "policy", "missing"),
        ({"policy": "fair", "modle": "tiny"}, "modle", 'Did you mean "model"?'),
    ],
)
def test_mistakes_are_a_400_in_the_apis_own_form_and_change_nothing(client, body, param, message):
    before = client.get(PATH).json
    response = client.post(PATH, json=body)
    error = response.json["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert message in error["message"]
    assert client.get(PATH).json == before


def test_an_unknown_model_is_a_404_and_a_form_is_no_way_to_change_anything(client):
    assert client.post(PATH, json={"policy": "fair", "model": "gpt"}).status_code == 404
    assert client.post(PATH, data={"policy": "fair"}).status_code == 415, "a web page of somebody else can send forms"


def test_the_key_guards_it(served):
    client = create_app(Catalog([served]), HttpConfig(api_key="secret")).test_client()
    for header in ({}, {"Authorization": "Bearer wrong"}):
        assert client.get(PATH, headers=header).status_code == 401
        assert client.post(PATH, json={"policy": "fair"}, headers=header).status_code == 401
    right = {"Authorization": "Bearer secret"}
    assert client.post(PATH, json={"policy": "fair"}, headers=right).status_code == 200


def test_a_sick_engine_is_not_ready(served, monkeypatch):
    client = create_app(Catalog([served])).test_client()
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(served.engine, "healthy", lambda: False)
    response = client.get("/readyz")
    assert (response.status_code, response.json) == (503, {"status": "unhealthy", "engines": ["tiny"]})
