"""From bytes in a request to the answer, through everything: what a client is told is what transformers answers."""

from __future__ import annotations

import base64
from io import BytesIO

import pytest
from PIL import Image

from serving.infrastructure.catalog import Catalog
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader
from serving.presentation.app import create_app

from .conftest import TOKENS, chat, picture


def png(media) -> dict:
    file = BytesIO()
    Image.fromarray(media.frames[0]).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.fixture(scope="module")
def client(idefics):
    return create_app(Catalog([idefics.served]), media=MediaReader(MediaLimits())).test_client()


def test_a_conversation_with_pictures(client, idefics):
    first, second = picture(41), picture(42, 20, 44)
    content = [{"type": "text", "text": "is "}, png(first), {"type": "text", "text": " like "}, png(second)]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
    asked = chat("is ", first, " like ", second)
    expected = idefics.served.tokenizer.decode(idefics.generate(asked))
    for cached in (False, True):
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json["choices"][0]["message"]["content"] == expected
        assert answer.json["usage"]["prompt_tokens"] == len(asked.prompt(idefics.served).tokens)
        assert (answer.json["usage"]["prompt_tokens_details"]["cached_tokens"] > 0) == cached


def test_a_text_that_writes_placeholders_is_the_client_s_mistake(client):
    content = [{"type": "text", "text": "<image>"}, png(picture(43))]
    answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 400
    assert "<image>" in answer.json["error"]["message"] and answer.json["error"]["param"] == "messages"


def test_where_the_model_looked(client, idefics):
    first, second = picture(44), picture(45, 20, 44)
    content = [png(first), {"type": "text", "text": " or "}, png(second)]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
    answer = client.post("/v1/chat/completions", json=body).json["choices"][0]["message"]["content"]
    asked = chat(first, " or ", second)
    looked = client.post("/v1/chat/attention", json={"messages": body["messages"], "answer": idefics.generate(asked)})
    assert looked.status_code == 200, looked.text
    tokens, pictures = looked.json["tokens"], looked.json["pictures"]
    assert [one["id"] for one in tokens] == idefics.answers(asked)[0]
    assert "".join(one["text"] for one in tokens) == answer
    assert [(one["part"], one["height"], one["width"]) for one in pictures] == [(0, 40, 30), (1, 20, 44)]
    for one in tokens:
        shapes = [[len(grid) for grid in picture] for picture in one["weights"]]
        assert shapes == [[grid["rows"] * grid["columns"] for grid in picture["grids"]] for picture in pictures]
        assert sum(map(sum, one["weights"][0])) + sum(map(sum, one["weights"][1])) == pytest.approx(one["share"], abs=1e-4)
        assert 0 < one["share"] < 1
    last = client.post("/v1/chat/attention", json={"messages": body["messages"], "answer": "it", "layers": [2]}).json
    assert [one["text"] for one in last["tokens"]] == ["i", "t"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": [{"role": "user", "content": "what?"}]}, "messages"),
        ({"answer": ""}, "answer"),
        ({"answer": "<image>"}, "answer"),
        ({"answer": [10**6]}, "answer"),
        ({"answer": "x" * 600}, "messages"),
        ({"layers": [3]}, "layers"),
        ({"layers": []}, "layers"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(client, changes, param):
    body = {"messages": [{"role": "user", "content": [png(picture(46))]}], "answer": "it", **changes}
    answer = client.post("/v1/chat/attention", json=body)
    assert answer.status_code == 400 and answer.json["error"]["param"] == param, answer.text
