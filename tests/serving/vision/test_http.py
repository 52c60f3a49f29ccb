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
