"""A conversation over /v1/realtime, with the official client and a model that says what it is told."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from serving.application.live.hearing import Ears, Heard
from serving.application.live.transcribing import Scribe
from serving.application.speech import Audio, Transcript
from serving.domain.request import Request
from serving.infrastructure.speech.silence import pieces
from tests.serving.http.scripted_engine import Catalog, scripted_model

from .conftest import FORMATS, PATIENCE, talk_to
from .modem import modem_engines

ANSWER = "It is forty two, as you know. Ask me something else."


def prompt_of(model, request: Request) -> str:
    return model.tokenizer.decode(request.prompt_tokens)


def until(true) -> None:
    """Wait for what another thread does soon."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def model():
    return scripted_model(ANSWER, (5,))


@pytest.fixture
def talk(serve, model):
    with talk_to(serve(Catalog(model))) as talk:
        yield talk


def test_typed_words_are_answered_in_writing(talk, model):
    talk.update(output_modalities=["text"], instructions="Be brief.")
    talk.write("hi")
    talk.connection.response.create()
    answer = talk.answer()
    assert (answer.status, answer.output[0].content[0].text) == ("completed", ANSWER)
    assert "".join(one.delta for one in talk.events if one.type == "response.output_text.delta") == ANSWER
    assert answer.usage.output_tokens == len(ANSWER)
    assert prompt_of(model, model.engine.requests[0]) == "system: Be brief.\nuser: hi\n"


@pytest.mark.parametrize("format", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_spoken_words_are_answered_aloud(serve, model, format):
    with talk_to(serve(Catalog(model)), format) as talk:
        talk.update(audio={"input": {"format": {"type": format}}, "output": {"format": {"type": format}}})
        talk.say("What is 6 x 7?")
        answer = talk.answer()
        assert answer.output[0].content[0].transcript == ANSWER
        assert talk.heard(answer).replace(" ", "") == ANSWER.replace(" ", "")
    assert prompt_of(model, model.engine.requests[-1]) == "user: What is 6 x 7?\n"


def test_more_tokens_than_there_is_room_for_are_as_many_as_there_is_room_for(talk, model):
    talk.update(output_modalities=["text"], max_output_tokens=4096)
    talk.write("hello")
    talk.connection.response.create()
    assert talk.answer().status == "completed"
    assert model.engine.requests[-1].sampling.max_tokens == 4096 - len(model.engine.requests[-1].prompt_tokens)


def test_a_long_turn_is_listened_to_in_pieces():
    heard, told = [], threading.Event()

    class Listening:
        name, languages = "listening", ()

        def transcribe(self, audio, language=None):
            heard.append(audio.seconds)
            return Transcript(f"{len(heard)}")

    listener = SimpleNamespace(turn_understood=lambda turn, text: (heard.append(text), told.set()))
    scribe = Scribe(listener, Listening, pieces)
    sound = FORMATS["audio/pcm"].encode(Audio(np.zeros(60 * 24_000, np.float32), 24_000))
    scribe.finish(Heard(1, sound, FORMATS["audio/pcm"], 60_000))
    assert told.wait(PATIENCE)
    scribe.close()
    *lengths, text = heard
    assert max(lengths) <= 20 and sum(lengths) == pytest.approx(60, abs=0.1) and text == " ".join(map(str, range(1, len(lengths) + 1)))


def test_events_come_in_the_order_of_the_protocol(talk):
    talk.say("What is 6 x 7?")
    talk.answer()
    kinds = list(dict.fromkeys(talk.types()))
    kinds.remove("conversation.item.input_audio_transcription.delta")  # comes while somebody still speaks
    assert kinds == [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert len({one.event_id for one in talk.events}) == len(talk.events)


@pytest.mark.parametrize(("padding", "began"), [(0, 400), (300, 100), (1000, 0)])
def test_a_turn_begins_with_its_padding(talk, padding, began):
    talk.update(audio={"input": {"turn_detection": {"type": "server_vad", "prefix_padding_ms": padding}}})
    talk.say("What is 6 x 7?")
    started = talk.until("input_audio_buffer.speech_started").audio_start_ms
    stopped = talk.until("input_audio_buffer.speech_stopped").audio_end_ms
    usage = talk.until("conversation.item.input_audio_transcription.completed").usage
    assert abs(started - began) < 100
    assert stopped - started == pytest.approx(1000 * usage.seconds, abs=2), "from here to there it was listened to"


def test_a_second_turn_has_the_first_one_before_it(talk, model):
    talk.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    talk.say("One?")
    talk.answer()
    talk.say("Two?")
    talk.answer()
    assert prompt_of(model, model.engine.requests[-1]) == f"user: One?\nassistant: {ANSWER}\nuser: Two?\n"


def test_whoever_speaks_in_between_is_listened_to(serve, model):
    model.engine.hang = True  # it is still answering when somebody speaks
    with talk_to(serve(Catalog(model))) as talk:
        talk.say("Tell me?")
        first = talk.until("response.output_audio.delta")
        talk.say("Stop it?")
        ended = talk.answer()
        assert (ended.id, ended.status, ended.status_details.reason) == (first.response_id, "cancelled", "turn_detected")
        cut = talk.until("conversation.item.truncated")
        assert cut.item_id == first.item_id
        second = talk.until("response.created").response
        late = [one for one in talk.events[talk.types().index("response.done") :] if one.type == "response.output_audio.delta"]
        assert not late and second.id != first.response_id
        talk.until("response.output_audio.delta")
        talk.connection.conversation.item.retrieve(item_id=first.item_id)
        kept = talk.until("conversation.item.retrieved").item.content[0].transcript
    history = prompt_of(model, model.engine.requests[-1])
    assert ANSWER.startswith(kept) and len(kept) < len(ANSWER)
    assert history == f"user: Tell me?\n{f'assistant: {kept}' + chr(10) if kept else ''}user: Stop it?\n"


def test_the_client_says_when_a_turn_is_over(talk, model):
    talk.update(audio={"input": {"turn_detection": None}})
    talk.say("Push to talk")
    talk.connection.input_audio_buffer.commit()
    talk.until("input_audio_buffer.committed")
    talk.connection.response.create()
    answer = talk.answer()
    assert answer.status == "completed" and "input_audio_buffer.speech_started" not in talk.types()
    assert prompt_of(model, model.engine.requests[-1]) == "user: Push to talk\n"


def test_an_answer_is_cancelled_and_truncated(serve, model):
    model.engine.hang = True
    with talk_to(serve(Catalog(model))) as talk:
        talk.write("hi")
        talk.connection.response.create()
        spoken = talk.until("response.output_audio.delta")
        talk.connection.response.cancel()
        assert talk.answer().status_details.reason == "client_cancelled"
        talk.connection.conversation.item.truncate(item_id=spoken.item_id, content_index=0, audio_end_ms=0)
        while talk.until("conversation.item.truncated").audio_end_ms:
            pass
        talk.connection.conversation.item.retrieve(item_id=spoken.item_id)
        assert talk.until("conversation.item.retrieved").item.content[0].transcript == ""
    until(lambda: model.engine.cancelled)


def test_a_function_is_called_within_a_spoken_turn(serve):
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    model = scripted_model(lambda request: "Sunny." if 'sunny' in str(bytes(t for t in request.prompt_tokens if t < 256)) else call, (7,))
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    with talk_to(serve(Catalog(model))) as talk:
        talk.update(tools=[tool])
        talk.say("How is it in Rome?")
        done = talk.until("response.function_call_arguments.done")
        assert (done.name, done.arguments) == ("weather", '{"city": "Rome"}')
        assert talk.answer().output[0].type == "function_call"
        talk.connection.conversation.item.create(
            item={"type": "function_call_output", "call_id": done.call_id, "output": "sunny"}
        )
        talk.connection.response.create()
        answer = talk.answer()
        assert talk.heard(answer) == "Sunny."


def test_nobody_hears_of_an_answer_to_a_sentence_that_went_on(talk, model):
    talk.update(audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 600}}})
    talk.say("Tell me.", after=0.0)
    talk.say("Or not.", before=0.4)
    answer = talk.answer()
    completed = "conversation.item.input_audio_transcription.completed"
    transcript = next(one.transcript for one in talk.events if one.type == completed)
    assert talk.types().count("response.created") == 1 and answer.status == "completed"
    assert transcript.startswith("Tell me.") and transcript.endswith("Or not.")
    assert prompt_of(model, model.engine.requests[-1]) == f"user: {transcript}\n"


def test_one_answer_may_be_different_and_outside_of_the_conversation(talk, model):
    talk.write("in the conversation")
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "aside"}]}
    talk.connection.response.create(
        response={"conversation": "none", "input": [item], "output_modalities": ["text"], "metadata": {"a": "b"}}
    )
    answer = talk.answer()
    assert (answer.metadata, answer.output_modalities) == ({"a": "b"}, ["text"])
    assert prompt_of(model, model.engine.requests[-1]) == "user: aside\n"
    talk.connection.response.create()
    talk.answer()
    assert prompt_of(model, model.engine.requests[-1]) == "user: in the conversation\n"


def test_a_long_conversation_forgets_its_beginning(talk, model):
    talk.update(output_modalities=["text"], instructions="Stay.")
    for at in range(3):
        talk.write(f"{at} " + "word " * 300)
    talk.connection.response.create()
    assert talk.answer().status == "completed"
    prompt = prompt_of(model, model.engine.requests[-1])
    assert prompt.startswith("system: Stay.\nuser: 1 ") or prompt.startswith("system: Stay.\nuser: 2 ")


def test_a_long_conversation_has_the_room_of_one_replica(talk, model):
    together = replace(model.engine.stats(), replicas=2)
    model.engine.stats = lambda: together
    talk.update(output_modalities=["text"], instructions="Stay.")
    for at in range(3):
        talk.write(f"{at} " + "word " * 300)
    talk.connection.response.create()
    assert talk.answer().status == "completed"
    assert prompt_of(model, model.engine.requests[-1]).startswith("system: Stay.\nuser: 2 ")


def test_an_answer_that_fails_says_why_and_the_conversation_goes_on(serve, model):
    with talk_to(serve(Catalog(model))) as talk:
        talk.connection.response.create()
        failed = talk.answer()
        assert failed.status == "failed" and "empty" in failed.status_details.error.message
        talk.write("hi")
        model.engine.refuse_after = 0
        talk.connection.response.create()
        assert talk.answer().status_details.error.code == "queue_full"
        model.engine.refuse_after = None
        talk.connection.response.create()
        assert talk.answer().status == "completed"


def test_conversations_do_not_disturb_each_other(serve):
    model = scripted_model(lambda request: "Echo " + str(bytes(t for t in request.prompt_tokens if t < 256)).split("user: ")[-1][:6] + ".", (3,))
    url = serve(Catalog(model), modem_engines())
    found = {}

    def converse(word: str) -> None:
        with talk_to(url) as talk:
            talk.say(word + "?")
            found[word] = talk.heard(talk.answer())

    words = ["aaaaa", "bbbbb", "ccccc", "ddddd"]
    threads = [threading.Thread(target=converse, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {word: f"Echo {word}?." for word in words}


def test_an_answer_that_is_asked_for_at_once_is_to_the_turn_before_it(talk, model, monkeypatch):
    asked, commit = threading.Event(), Ears._commit
    monkeypatch.setattr(Ears, "_commit", lambda ears: (asked.wait(PATIENCE), commit(ears)))
    talk.update(audio={"input": {"turn_detection": None}})
    talk.say("hi")
    talk.connection.input_audio_buffer.commit()
    talk.connection.response.create()
    talk.until("response.created")
    asked.set()
    assert talk.answer().status == "completed"
    assert prompt_of(model, model.engine.requests[0]) == "user: hi\n"


def test_a_commit_of_nothing_keeps_no_answer_waiting(talk):
    talk.update(output_modalities=["text"], audio={"input": {"turn_detection": None}})
    talk.write("hi")
    talk.connection.input_audio_buffer.commit()
    while talk.next().type != "error":
        pass
    talk.connection.response.create()
    assert talk.answer().status == "completed"


def test_an_answer_is_written_no_further_than_its_voice_has_come(serve, model):
    engines, speaking, go_on = modem_engines(), threading.Event(), threading.Event()
    engines.to_speech().slow = lambda: (speaking.set(), go_on.wait(PATIENCE))
    with talk_to(serve(Catalog(model), engines)) as talk:
        talk.write("hi")
        talk.connection.response.create()
        assert speaking.wait(PATIENCE)
        time.sleep(0.2)
        go_on.set()
        talk.until("response.output_audio.delta")
        written = "".join(one.delta for one in talk.events if one.type == "response.output_audio_transcript.delta")
        assert written and len(written) < len(ANSWER) / 2
        assert talk.answer().output[0].content[0].transcript == ANSWER
    assert model.engine.requests[-1].ahead, "the engine waits, too"


@pytest.mark.parametrize(("modality", "kept"), [("audio", "Two."), ("text", "Two.")])
def test_what_a_model_thinks_is_not_said(serve, modality, kept):
    with talk_to(serve(Catalog(scripted_model("<think>1 + 1</think>Two.", (5,))))) as talk:
        talk.update(output_modalities=[modality])
        talk.write("hi")
        talk.connection.response.create()
        part = talk.answer().output[0].content[0]
        assert (part.transcript if modality == "audio" else part.text) == kept
