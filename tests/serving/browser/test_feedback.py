"""What a person thinks of an answer, from the click to the data set."""

from __future__ import annotations

import json
import urllib.request

import pytest

from lifecycle.rlhf.pairs import read_file
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

from .pupil import RUDE, user
from .talking import ask, change, say


@pytest.fixture
def keeper(serve, catalog):
    """A server that keeps feedback, none so far."""
    return serve(create_app(catalog, HttpConfig(), feedback=SqliteFeedback(":memory:")))


def kept(server) -> list[dict]:
    return json.load(urllib.request.urlopen(server.url + "/v1/feedback"))["data"]


def test_a_thumb_is_kept_with_the_version_that_answered(open_page, keeper):
    page = open_page(keeper.url)
    page.wait_for_selector("#model option", state="attached")
    change(page, system="Be brief.")
    assert ask(page, "hello") == "Hello."
    with page.expect_request("**/v1/feedback") as caught:
        page.click("[aria-label='Good answer']")
    assert json.loads(caught.value.post_data)["model"] == "pupil/1"
    page.wait_for_selector("text=Thank you")
    (one,) = kept(keeper)
    told = [{"role": "system", "content": "Be brief."}, *user("hello")]
    expected = {"kind": "thumb", "rating": "up", "messages": told, "answer": "Hello.", "model": "pupil/1"}
    assert {name: one[name] for name in expected} == expected
    page.reload()
    page.wait_for_selector("[aria-label='Good answer'][aria-pressed='true']")


def test_a_comparison_becomes_a_pair_to_learn_from(open_page, keeper, tmp_path):
    page = open_page(keeper.url)
    page.wait_for_selector("#rival option >> nth=1", state="attached")
    page.click("#compare")
    change(page, rival="rude", rival__temperature=0)
    for question in ("hello", "bye"):
        page.click("#new")
        say(page, question)
        page.click("text=B is better")
        page.wait_for_selector("text=Thank you")
    bye, hello = kept(keeper)
    answers = ["Hello to you.", RUDE]
    expected = {"kind": "comparison", "messages": user("hello"), "answers": answers, "chosen": 1}
    assert {**expected, "models": ["pupil/1", "rude/1"]}.items() <= hello.items()
    path = tmp_path / "preferences.jsonl"
    path.write_bytes(urllib.request.urlopen(keeper.url + "/v1/feedback/export").read())
    pairs, _ = read_file(path)
    for pair, one in zip(pairs, (hello, bye), strict=True):
        worse, better = ([{"role": "assistant", "content": text}] for text in one["answers"])
        assert pair == {"prompt": one["messages"], "chosen": better, "rejected": worse}


def test_a_corrected_answer_is_kept_and_gone_on_from(open_page, keeper):
    page = open_page(keeper.url)
    said = ask(page, "hello")
    page.click("text=Correct")
    page.fill("[aria-label='Edit the message']", "Good day.")
    page.click("form.editor >> text=Send")
    page.wait_for_selector("text=Thank you")
    (one,) = kept(keeper)
    assert {"kind": "comparison", "answers": [said, "Good day."], "chosen": 1, "models": ["pupil/1", "edited"]}.items() <= one.items()
    assert page.locator(".message.assistant").last.locator(".body").inner_text() == "Good day."
    assert page.locator("[aria-label='Good answer']").count() == 0, "nobody judges their own words"


def test_what_is_not_kept_is_said(open_page, keeper):
    page = open_page(keeper.url)
    ask(page, "hello")
    page.route("**/v1/feedback", lambda route: route.abort())
    page.click("[aria-label='Bad answer']")
    page.wait_for_selector("text=Not kept")
    assert page.locator("[aria-pressed='true'][aria-label='Bad answer']").count() == 0
    assert kept(keeper) == []


def test_nobody_is_asked_where_nothing_is_kept(page):
    ask(page, "hello")
    assert page.locator("[aria-label='Good answer']").count() == 0
