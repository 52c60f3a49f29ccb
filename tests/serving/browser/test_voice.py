"""Speaking with a server from a real browser whose microphone hears a file."""

from __future__ import annotations

import wave

import numpy as np
import pytest
from live.conftest import voice_of
from live.modem import RATE, ModemMouth

from serving.application.speech import SpeechEngines
from serving.infrastructure.speech.config import load_activity, load_hearing, load_speaking
from serving.presentation.app import create_app
from tests.serving.http.scripted_engine import Catalog, scripted_model
from tests.serving.speech.voices import voice_config

from .conftest import ARGUMENTS, CHROMIUM, visit
from .talking import until as wait_until

STORY = "Once upon a time there was a fox. " * 12
QUESTIONS = ("What is six times seven?", "Tell me a long story.", "Please stop that.")
PAUSES = (1.5, 4.0, 7.0, 60.0)
"""Seconds before, between and after them: the third one is said while the story is told."""


def answered(request) -> str:
    said = bytes(token for token in request.prompt_tokens if token < 256).decode().lower().rsplit("user: ", 1)[-1]
    return "It is forty two." if "seven" in said or "7" in said else STORY if "story" in said else "All right."


@pytest.fixture(scope="module")
def engines():
    """Real ears; a mouth that costs nothing."""
    pytest.importorskip("moonshine_voice")
    ears, mouth, activity = load_hearing(voice_config()), ModemMouth(), load_activity(voice_config())
    return SpeechEngines(lambda: ears, lambda: mouth, lambda: activity)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Three questions, spoken."""
    speaker = load_speaking(voice_config())
    pieces = [np.zeros(int(PAUSES[0] * RATE), np.float32)]
    for question, pause in zip(QUESTIONS, PAUSES[1:], strict=True):
        pieces += [*(chunk.audio.samples for chunk in speaker.speak(question)), np.zeros(int(pause * RATE), np.float32)]
    path = tmp_path_factory.mktemp("voice") / "said.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.concatenate(pieces) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def server(serve, engines):
    return serve(create_app(Catalog(scripted_model(answered, (4,))), voice=voice_of(engines)))


@pytest.fixture
def page(browser, recording, server, wrong):
    """With that file in its microphone; it begins to play when the microphone is opened."""
    microphone = (f"--use-file-for-fake-audio-capture={recording}%noloop", "--autoplay-policy=no-user-gesture-required")
    speaking = browser.browser_type.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *microphone])
    page = speaking.new_context(viewport={"width": 1000, "height": 860}, permissions=["microphone"]).new_page()
    page.set_default_timeout(20_000)
    visit(page, server.url, wrong)
    page.wait_for_selector("#voice-open:visible")
    yield page
    speaking.close()


def until(page, condition: str) -> None:
    """What is said takes its time, and so do real ears on a busy machine."""
    wait_until(page, condition, patience=60.0)


def messages(page, role: str) -> list[str]:
    return page.locator(f".message.{role} .body").all_inner_texts()


def remember_states(page) -> None:
    """On a busy machine a state may be over before somebody asks for it."""
    page.evaluate(
        """() => {
            const voice = document.querySelector('#voice');
            window.states = [];
            new MutationObserver(() => window.states.push(voice.dataset.state)).observe(voice, { attributeFilter: ['data-state'] });
        }"""
    )


def test_two_turns_and_an_interruption(page):
    remember_states(page)
    page.click("#voice-open")
    until(page, "() => document.querySelectorAll('.message.assistant').length >= 2")
    assert "It is forty two." in messages(page, "assistant")[0]
    until(page, "() => document.querySelectorAll('.message.assistant').length >= 3")
    until(page, "() => [...document.querySelectorAll('.message.assistant .facts')].some((one) => one.textContent === 'interrupted')")
    asked, answers = messages(page, "user"), messages(page, "assistant")
    assert len(asked) == 3 and "story" in asked[1].lower() and "stop" in asked[2].lower()
    assert STORY.startswith(answers[1].rstrip("…").strip()) and len(answers[1]) < len(STORY) / 2
    assert answers[2].strip() == "All right."
    assert page.evaluate("() => window.states").count("speaking") >= 2
    assert page.locator("#voice-latency").get_attribute("data-sound") == "true"
    assert page.locator("#voice-latency .latency b").count() == 3
    page.click("#voice-close")
    assert page.is_visible("#prompt") and page.is_hidden("#voice")


def test_push_to_talk(page):
    page.evaluate("localStorage.setItem('lifecycle.voice', 'push')")
    page.click("#voice-open")
    until(page, "() => document.querySelector('#voice').dataset.state === 'idle'")
    page.hover("#voice-talk")
    page.mouse.down()
    assert page.locator("#voice").get_attribute("data-state") == "hearing"
    page.wait_for_timeout(4000)  # the length of what is said
    page.mouse.up()
    until(page, "() => document.querySelectorAll('.message.assistant').length >= 1")
    assert "six" in messages(page, "user")[0].lower() or "6" in messages(page, "user")[0]
    until(page, "() => document.querySelector('#voice').dataset.state === 'idle'")
    page.keyboard.press("Escape")
    assert page.is_hidden("#voice")


def test_another_way_to_talk_while_it_connects(page):
    with page.expect_websocket():
        page.click("#voice-open")
    page.click("#voice-push")
    until(page, "() => document.querySelector('#voice').dataset.state === 'idle'")
    page.wait_for_timeout(500)  # for what the first conversation has to say yet
    assert page.is_hidden("#voice-problem")
    page.click("#voice-close")


def test_a_server_without_a_voice_offers_none(open_page, serve):
    page = open_page(serve(create_app(Catalog(scripted_model("Hello.")))).url)
    page.wait_for_selector("#examples button")
    assert page.is_hidden("#voice-open")
