"""What the model really reads: text to tokens and back, and the very prompt of a chat."""

import pytest

HELLO = [{"role": "user", "content": "the quick fox"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def post(server):
    import httpx

    with httpx.Client(base_url=server.url) as http:

        def post(route, **body):
            answer = http.post(route, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        yield post


def test_text_goes_to_tokens_and_back(post):
    for text in ("the quick brown fox", "", "né 🦊\n"):
        tokens = post("/tokenize", prompt=text, return_token_strs=True)
        assert tokens["count"] == len(tokens["tokens"]) == len(tokens["token_strs"])
        assert post("/detokenize", tokens=tokens["tokens"])["prompt"] == text


def test_a_rendered_chat_is_what_a_chat_costs_and_says(post, client):
    options = {"messages": HELLO, "tools": [TOOL], "temperature": 0, "max_tokens": 8}
    rendered = post("/v1/chat/render", **options)
    answer = client.chat.completions.create(model="tiny", **options)
    assert answer.usage.prompt_tokens == rendered["count"] == len(rendered["tokens"])
    assert "the quick fox" in rendered["prompt"] and "add" in rendered["prompt"]
    assert post("/tokenize", messages=HELLO, tools=[TOOL])["tokens"] == rendered["tokens"]
    text = client.completions.create(model="tiny", prompt=rendered["tokens"], temperature=0, max_tokens=8)
    assert text.choices[0].text == answer.choices[0].message.content


def test_the_final_message_is_gone_on_with(post, client):
    begun = [*HELLO, {"role": "assistant", "content": "jumps over"}]
    whole = post("/v1/chat/render", messages=HELLO)["prompt"]
    assert post("/v1/chat/render", messages=begun, continue_final_message=True)["prompt"] == whole + "jumps over"
    bare = post("/v1/chat/render", messages=HELLO, add_generation_prompt=False)["prompt"]
    assert whole.startswith(bare) and len(bare) < len(whole)
    options = {"temperature": 0, "max_tokens": 8}
    chat = client.chat.completions.create(
        model="tiny", messages=begun, extra_body={"continue_final_message": True}, **options
    )
    text = client.completions.create(model="tiny", prompt=post("/tokenize", prompt=whole + "jumps over")["tokens"], **options)
    assert chat.choices[0].message.content == text.choices[0].text


@pytest.mark.parametrize(
    ("param", "change"),
    [
        ("continue_final_message", {"continue_final_message": True, "add_generation_prompt": True}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"tokenize": True}}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"messages": []}}),
        ("chat_template_kwargs", {"chat_template_kwargs": []}),
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ["/v1/chat/render", "/v1/chat/completions", "/tokenize"])
def test_a_template_is_not_to_be_replaced_or_confused(server, route, param, change):
    import httpx

    answer = httpx.post(server.url + route, json={"messages": HELLO, **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("route", "param", "body"),
    [
        ("/tokenize", "prompt", {}),
        ("/tokenize", "prompt", {"prompt": "x", "messages": HELLO}),
        ("/tokenize", "prompt", {"prompt": 5}),
        ("/detokenize", "tokens", {}),
        ("/detokenize", "tokens[1]", {"tokens": [1, -1]}),
        ("/detokenize", "tokens[0]", {"tokens": [999_999]}),
        ("/detokenize", "tokens[0]", {"tokens": [True]}),
        ("/detokenize", "token", {"token": []}),
    ],
    ids=str,
)
def test_mistakes_name_the_field(server, route, param, body):
    import httpx

    if param == "token":
        body = {"tokens": [], **body}
    answer = httpx.post(server.url + route, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
