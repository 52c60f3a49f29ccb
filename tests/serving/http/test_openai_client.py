"""The official client against the real server, engine and a tiny random model."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

HELLO = [{"role": "user", "content": "the quick fox"}]


def chat(client, **options):
    return client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 12, **options})


def streamed(chunks):
    """Texts by choice, finish reasons by choice, usage."""
    texts, reasons, usage = {}, {}, None
    for chunk in chunks:
        for choice in chunk.choices:
            piece = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (piece or "")
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
        usage = chunk.usage or usage
    return texts, reasons, usage


def test_chat(client):
    answer = chat(client, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.model == "tiny"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_a_stream_says_what_the_whole_answer_says(client):
    whole = chat(client, temperature=0)
    texts, reasons, usage = streamed(chat(client, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert texts == {0: whole.choices[0].message.content}
    assert reasons == {0: whole.choices[0].finish_reason}
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)


def test_a_seed_repeats_an_answer_and_another_one_does_not(client):
    options = {"temperature": 1.5, "max_tokens": 24}
    first = chat(client, seed=7, **options).choices[0].message.content
    assert chat(client, seed=7, **options).choices[0].message.content == first
    assert chat(client, seed=8, **options).choices[0].message.content != first


def test_several_choices_differ_and_the_first_is_that_of_one(client):
    options = {"temperature": 1.5, "seed": 7, "max_tokens": 24}
    one = chat(client, **options).choices[0].message.content
    many = chat(client, n=3, **options)
    texts = [choice.message.content for choice in many.choices]
    assert texts[0] == one
    assert len(set(texts)) == 3
    assert many.usage.completion_tokens <= 3 * 24
    stream_texts, reasons, _ = streamed(chat(client, n=3, stream=True, **options))
    assert [stream_texts[index] for index in range(3)] == texts
    assert sorted(reasons) == [0, 1, 2]


def test_a_stop_string_cuts_the_answer(client):
    whole = chat(client, temperature=0, max_tokens=40).choices[0].message.content
    stop = whole[8:11]
    expected = whole[: whole.index(stop)]
    cut = chat(client, temperature=0, max_tokens=40, stop=stop)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (expected, "stop")
    texts, reasons, _ = streamed(chat(client, temperature=0, max_tokens=40, stop=[stop, "never this"], stream=True))
    assert (texts, reasons) == ({0: expected}, {0: "stop"})


def test_logprobs_of_a_greedy_answer_are_the_best(client):
    answer = chat(client, temperature=0, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(other.logprob for other in token.top_logprobs) <= 0
    plain = chat(client, temperature=0)
    assert plain.choices[0].logprobs is None
    assert plain.choices[0].message.content == answer.choices[0].message.content


def test_completions_of_texts_and_token_ids(client):
    answer = client.completions.create(
        model="tiny", prompt=["the quick", "lazy dog"], temperature=0, max_tokens=6, echo=True
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].text.startswith("the quick")
    assert answer.choices[1].text.startswith("lazy dog")
    ids = client.completions.create(model="tiny", prompt=[40, 41, 42], temperature=0, max_tokens=6)
    assert ids.usage.prompt_tokens == 3
    scored = client.completions.create(model="tiny", prompt="the quick", temperature=0, max_tokens=6, logprobs=2)
    assert len(scored.choices[0].logprobs.tokens) == 6
    assert scored.choices[0].logprobs.text_offset[0] == 0
    texts, _, _ = streamed(
        client.completions.create(model="tiny", prompt="the quick", temperature=0, max_tokens=6, stream=True)
    )
    assert texts == {0: scored.choices[0].text}


def test_sixteen_tokens_are_a_completions_default(client):
    answer = client.completions.create(model="tiny", prompt="the", extra_body={"min_tokens": 16})
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_an_answer_that_ignores_the_end_goes_on_to_its_last_token(client):
    def ask(**extra):
        """The end of a text, token 0, is by far the likeliest of all."""
        bias = {"0": 100}
        answer = client.completions.create(model="tiny", prompt="the", max_tokens=9, logit_bias=bias, extra_body=extra)
        return answer.choices[0].finish_reason, answer.usage.completion_tokens

    assert ask() == ("stop", 0)
    assert ask(ignore_eos=True) == ("length", 9)
    assert ask(ignore_eos=True, stop_token_ids=[0]) == ("stop", 0)


def test_many_clients_at_once_get_what_they_get_alone(client):
    def ask(seed):
        return chat(client, seed=seed, temperature=1.2, max_tokens=16).choices[0].message.content

    alone = [ask(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone


def test_a_repeated_prompt_is_cached_but_not_for_another_key(client, server):
    long = [{"role": "user", "content": "the quick brown fox jumps over the lazy dog. " * 8}]
    chat(client, messages=long)
    again = chat(client, messages=long).usage
    assert 0 < again.prompt_tokens_details.cached_tokens < again.prompt_tokens
    with openai.OpenAI(base_url=server.url + "/v1", api_key="somebody else", max_retries=0) as other:
        assert chat(other, messages=long).usage.prompt_tokens_details.cached_tokens == 0


def test_penalties_bias_and_stop_tokens_reach_the_engine(client):
    def tokens(**options):
        extra = {"top_k": 1, **options}
        answer = client.completions.create(
            model="tiny", prompt="the fox", max_tokens=8, temperature=0, logprobs=0, extra_body=extra
        )
        (choice,) = answer.choices
        return choice.logprobs.tokens if choice.logprobs else [], choice.finish_reason

    forced, reason = tokens(logit_bias={"70": 100})
    assert len(set(forced)) == 1 and len(forced) == 8 and reason == "length"
    assert len(set(tokens(logit_bias={"70": 100, "71": 99}, presence_penalty=2)[0])) == 2
    assert tokens(logit_bias={"70": 100}, stop_token_ids=[70]) == ([], "stop")


def test_models(client):
    (model,) = client.models.list().data
    assert (model.id, model.version, model.aliases, model.lineage) == ("tiny", "tiny/1", ["production"], ["tiny/1"])
    assert client.models.retrieve("tiny/1") == client.models.retrieve("production") == model


def test_mistakes_arrive_as_the_clients_exceptions(client):
    with pytest.raises(openai.NotFoundError, match="served here"):
        chat(client, model="gpt-9")
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        chat(client, logit_bias={"999999": 100})
    with pytest.raises(openai.BadRequestError, match="max_tokens") as error:
        chat(client, max_tokens=100_000)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="tiny", prompt=[999_999])
    assert error.value.param == "prompt"


def test_tools_are_rendered_and_a_conversation_with_calls_is_accepted(client):
    tools = [
        {
            "type": "function",
            "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        }
    ]
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    with_tools = chat(client, messages=messages, tools=tools)
    without = chat(client, messages=messages, tools=tools, tool_choice="none")
    assert with_tools.usage.prompt_tokens > without.usage.prompt_tokens


def test_an_echo_with_logprobs_scores_the_prompt(client, server, catalog):
    options = {"model": "tiny", "temperature": 0, "max_tokens": 4, "logprobs": 2}
    prompts = ["the quick brown fox", "lazy dog"]
    answer = client.completions.create(prompt=prompts, echo=True, n=2, **options)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for choice, prompt in zip(answer.choices, [text for text in prompts for _ in range(2)], strict=True):
        scores, tokens = choice.logprobs, catalog.get("tiny").tokenizer.encode(prompt)
        assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.top_logprobs) == len(tokens) + 4
        assert scores.token_logprobs[0] is scores.top_logprobs[0] is None
        assert "".join(scores.tokens) == choice.text
        assert [choice.text[at:].startswith(token) for at, token in zip(scores.text_offset, scores.tokens, strict=True)]
        assert scores.text_offset[len(tokens)] == len(prompt)
        # A prompt's token is as likely in an echo as it is when it is an answer that has to be.
        bias = {str(tokens[-1]): 100}
        forced = client.completions.create(prompt=tokens[:-1], logit_bias=bias, **{**options, "max_tokens": 1})
        assert forced.choices[0].logprobs.token_logprobs[0] == pytest.approx(scores.token_logprobs[len(tokens) - 1], abs=1e-4)
    chunks = client.completions.create(prompt=prompts, echo=True, stream=True, **options)
    streamed_scores = {0: [], 1: []}
    for chunk in chunks:
        for choice in chunk.choices:
            if choice.logprobs:
                streamed_scores[choice.index] += zip(choice.logprobs.text_offset, choice.logprobs.tokens, strict=True)
    for index, whole in ((0, answer.choices[0]), (1, answer.choices[2])):
        assert streamed_scores[index] == list(zip(whole.logprobs.text_offset, whole.logprobs.tokens, strict=True))
