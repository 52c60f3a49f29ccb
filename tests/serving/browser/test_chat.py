"""Talking to a model in a real browser."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Error

from lifecycle.world.tools import TOOLS
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.state import HttpConfig

from .conftest import visit
from .pupil import HOSTILE, LOOKUP
from .talking import ask, change, last_answer, say, until

LONG = 6000  # tokens: nobody waits for the end of it


@pytest.fixture(scope="module")
def still(browser, server):
    """A page in which nobody changes anything, for what only calculates."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url + "/")
    yield page
    context.close()


def sent(page, text: str) -> dict:
    """The body of the request that saying `text` sends."""
    with page.expect_request("**/v1/chat/completions") as caught:
        say(page, text)
    return json.loads(caught.value.post_data)


def test_an_answer_streams_and_can_be_stopped(page):
    change(page, max_tokens=LONG)
    say(page, "count")
    body = page.locator(".message.assistant .body")
    until(page, "document.querySelector('.message.assistant .body')?.textContent.length > 20")
    early = len(body.inner_text())
    until(page, f"document.querySelector('.message.assistant .body').textContent.length > {early + 20}")
    assert page.locator("body.busy").count() == 1
    page.keyboard.press("Escape")
    assert last_answer(page).startswith("tick tick")
    assert "stopped" in page.locator(".facts").inner_text()
    until(page, "fetch('stats').then((r) => r.json()).then((s) => s.models[0].running === 0)")


def test_what_a_model_writes_never_becomes_markup(page):
    assert ask(page, "be hostile").startswith('bold and <img src=x onerror="document.title=1">')
    body = page.locator(".message.assistant .body")
    assert body.locator("strong").inner_text() == "bold"
    assert body.locator("code").inner_text() == "<script>"
    assert body.locator("img, script, a").count() == 0
    assert page.title() == "lifecycle"


def test_what_was_thought_can_be_opened_and_goes_back_with_the_answer(page):
    assert ask(page, "think") == "Two."
    thought = page.locator(".message.assistant .thought")
    assert thought.get_attribute("open") is None and not thought.locator("p").is_visible()
    thought.locator("summary").click()
    assert thought.locator("p").inner_text() == "One and one."
    answer = sent(page, "hello")["messages"][1]
    assert (answer["content"], answer["reasoning_content"]) == ("Two.", "One and one.")


def test_what_a_person_writes_never_becomes_markup(page):
    ask(page, HOSTILE)
    assert page.locator(".message.user .body").inner_text() == HOSTILE
    assert page.locator(".message.user .body > *").count() == 0


def test_markdown_becomes_headings_lists_and_tables(page):
    ask(page, "use markdown")
    body = page.locator(".message.assistant .body")
    assert body.locator("h2").inner_text() == "Plan"
    assert body.locator("li").all_inner_texts() == ["one", "two"]
    assert body.locator("em").inner_text() == "two"
    assert body.locator("td").all_inner_texts() == ["1", "2"]


def test_a_tool_of_the_page_is_called_and_answered(page):
    change(page, tool__calculator=True)
    say(page, "multiply")
    page.wait_for_selector(".message.assistant:nth-of-type(3) .facts")
    assert last_answer(page) == "It is 425."
    assert page.locator(".call header").inner_text() == 'calculator({"expression": "17 * 25"})'
    assert page.locator(".call .result").inner_text() == "425"


def test_the_tools_of_the_page_are_the_ones_that_models_are_trained_with(page):
    change(page, tool__clock=True, tool__calculator=True)
    page.click("#tools-example")
    assert sent(page, "hello")["tools"] == [TOOLS["clock"], TOOLS["calculator"], TOOLS["weather"]]


@pytest.mark.parametrize(
    ("sum_", "value"),
    [("17 * 25", 425), ("2 + 3 * 4 ^ 2", 50), ("-(1 + 2) / 4", -0.75), ("0.1 + 0.2", 0.3), ("7 % 4 - -1", 4), ("2^3^2", 512)],
)
def test_the_calculator_calculates(still, sum_, value):
    assert still.evaluate("async (text) => (await import('./static/calculator.js')).calculate(text)", sum_) == value


@pytest.mark.parametrize("wrong", ["", "1 +", "(1", "alert(1)", "1 2", "constructor"])
def test_the_calculator_says_what_it_cannot_read(still, wrong):
    question = "async (text) => (await import('./static/calculator.js')).calculate(text)"
    with pytest.raises(Error, match="expect|missing"):
        still.evaluate(question, wrong)


def test_a_tool_of_ones_own_is_answered_by_hand(page):
    change(page, tools=json.dumps([LOOKUP]))
    say(page, "look it up")
    page.fill(".call input", "sunny")
    page.press(".call input", "Enter")
    page.wait_for_selector(".message.assistant:nth-of-type(3) .facts")
    assert last_answer(page) == "It is sunny."
    assert page.locator(".call input").count() == 0


def test_tools_that_are_no_json_are_refused_before_anything_is_sent(page):
    change(page, tools="[{")
    assert page.locator("#tools-error").inner_text().startswith("Not readable")
    say(page, "hello")
    page.wait_for_selector(".failure")
    assert "The tools cannot be read" in page.locator(".failure").inner_text()


def test_editing_grows_a_branch_and_both_stay(page):
    assert ask(page, "hello") == "Hello to you."
    page.click("text=Edit")
    page.fill(".editor textarea", "bye")
    page.press(".editor textarea", "Enter")
    until(page, "document.querySelector('.message.assistant .body')?.textContent === 'See you soon.'")
    page.wait_for_selector("text=2/2")
    page.click("[aria-label='Previous branch']")
    assert last_answer(page) == "Hello to you."
    page.reload()
    page.wait_for_selector("text=1/2")
    assert last_answer(page) == "Hello to you."
    page.click("[aria-label='Next branch']")
    assert last_answer(page) == "See you soon."


def test_another_answer_is_a_branch_of_the_answer(page):
    ask(page, "hello")
    page.click("text=Regenerate")
    page.wait_for_selector(".message.assistant >> text=2/2")
    assert last_answer(page) == "Hello to you."


def test_settings_are_sent_and_remembered(page):
    change(page, system="Be brief.", temperature=0.5, top_p=0.9, top_k=7, seed=11, max_tokens=3, stop="xyz")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    change(page, schema=json.dumps(schema))
    body = sent(page, "hello")
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    wanted = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 11, "max_tokens": 3, "stop": "xyz"}
    assert wanted.items() <= body.items()
    assert body["response_format"]["json_schema"]["schema"] == schema
    page.reload()
    assert page.input_value("#temperature") == "0.5"
    assert page.input_value("#system") == "Be brief."


def test_a_refusal_says_why_and_names_the_field(page):
    change(page, seed=10**30)
    say(page, "hello")
    page.wait_for_selector(".failure code")
    assert page.locator(".failure code").inner_text() == "seed"
    change(page, seed="")
    page.click("text=Try again")
    page.wait_for_selector("text=2/2")
    assert last_answer(page) == "Hello to you."


def test_tokens_show_their_probabilities_and_alternatives(page):
    change(page, logprobs=True)
    say(page, "hello")
    page.wait_for_selector(".token")
    page.wait_for_selector("body:not(.busy)")
    assert "".join(page.locator(".token").all_text_contents()) == "Hello to you."
    page.locator(".token").first.click()
    rows = page.locator(".alternative")
    assert rows.count() == 5
    shares = [float(text.strip("<%")) for text in rows.locator("span:last-child").all_inner_texts()]
    assert shares[0] == max(shares) and 90 < sum(shares) <= 101
    page.get_by_role("button", name="Tokens", exact=True).click()
    assert page.locator(".token").count() == 0


def test_two_answers_side_by_side_and_the_chosen_one_goes_on(page):
    page.click("#compare")
    change(page, rival__temperature=0)
    say(page, "hello")
    page.wait_for_selector("text=B is better")
    assert page.locator(".duel .body").all_inner_texts() == ["Hello to you."] * 2
    page.click("text=B is better")
    page.click("#compare")
    assert page.locator(".duel").count() == 0
    body = sent(page, "bye")
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


def test_a_key_is_asked_for_and_used(open_page, catalog):
    with run_in_thread(create_app(catalog, HttpConfig(api_key="secret"))) as locked:
        page = open_page(locked.url)
        page.wait_for_selector("#key-form:not([hidden])")
        page.fill("#key", "wrong")
        page.press("#key", "Enter")
        page.wait_for_selector("#key-form:not([hidden])")
        page.fill("#key", "secret")
        page.press("#key", "Enter")
        page.wait_for_selector("#key-form", state="hidden")
        until(page, "document.querySelector('#model').value === 'pupil'")
        assert ask(page, "hello") == "Hello to you."


def test_what_was_deleted_in_another_tab_does_not_come_back(page, server, wrong):
    ask(page, "hello")
    other = visit(page.context.new_page(), server.url, wrong)
    other.wait_for_selector("#conversations li", state="attached")
    other.evaluate("document.querySelector('#conversations .tiny').click()")
    until(page, "document.querySelectorAll('#conversations li').length === 0")
    page.reload()
    page.wait_for_selector("#examples button")
    assert page.locator("#conversations li").count() == 0
    ask(page, "hello")
    until(other, "document.querySelectorAll('#conversations li').length === 1")


def test_the_keyboard_suffices(page):
    page.locator("#theme").focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("bye")
    page.keyboard.press("Shift+Enter")
    assert page.input_value("#prompt") == "bye\n"
    page.locator("#tab-chat").focus()
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#engine") and page.is_hidden("#chat")
    assert page.evaluate("document.activeElement.id") == "tab-engine"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_somebody_chooses(open_page, scheme):
    page = open_page(color_scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    page.click("#theme")
    chosen = page.evaluate(background)
    assert chosen != before
    page.reload()
    assert page.evaluate(background) == chosen
