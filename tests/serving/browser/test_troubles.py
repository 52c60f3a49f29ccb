"""What people do to a page: several tabs, haste, and a server that goes away."""

from __future__ import annotations

from urllib.parse import urlsplit

from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.state import HttpConfig

from .talking import ask, change, last_answer, say, until

LONG = 6000  # tokens: nobody waits for the end of it
GROWS = "document.querySelector('.message.assistant .body')?.textContent.length > 20"


def test_leaving_a_conversation_keeps_what_was_written_so_far(page):
    change(page, max_tokens=LONG)
    say(page, "count")
    until(page, GROWS)
    page.click("#new")
    page.wait_for_selector("body:not(.busy)")
    assert page.locator(".message").count() == 0
    page.click("#conversations button >> nth=0")
    assert last_answer(page).startswith("tick tick")
    assert "stopped" in page.locator(".facts").inner_text()


def test_a_conversation_that_is_deleted_while_it_is_answered_stays_deleted(page):
    change(page, max_tokens=LONG)
    say(page, "count")
    until(page, GROWS)
    page.click("[aria-label='Delete count']")
    page.wait_for_selector("body:not(.busy)")
    assert page.locator("#conversations li").count() == 0
    page.reload()
    page.wait_for_selector("#examples button")
    assert page.locator(".message").count() == 0


def test_a_reload_in_the_middle_keeps_question_and_answer(page):
    change(page, max_tokens=LONG)
    say(page, "count")
    until(page, GROWS)
    page.reload()
    page.wait_for_selector(".message.user >> text=count")
    assert last_answer(page).startswith("tick tick")


def test_an_edit_survives_the_end_of_an_answer(page):
    change(page, max_tokens=LONG)
    say(page, "count")
    until(page, GROWS)
    page.click("text=Edit")
    page.fill(".editor textarea", "bye")
    page.evaluate("document.querySelector('#send').click()")  # stops it, and the editor keeps the focus
    page.wait_for_selector("body:not(.busy)")
    assert page.input_value(".editor textarea") == "bye"
    page.press(".editor textarea", "Enter")
    until(page, "document.querySelector('.message.assistant .body')?.textContent === 'See you soon.'")
    page.click("text=Edit")
    page.press(".editor textarea", "Escape")
    assert page.locator(".message.user .body").inner_text() == "bye"


def test_two_tabs_follow_each_other(page):
    ask(page, "hello")
    second = page.context.new_page()
    second.goto(page.url)
    second.wait_for_selector("text=Hello to you.")
    ask(second, "bye")
    until(page, "document.querySelectorAll('.message').length === 4")
    assert last_answer(page) == last_answer(second)


def test_two_tabs_that_answer_at_once_lose_nothing(page):
    ask(page, "hello")
    second = page.context.new_page()
    second.goto(page.url)
    second.wait_for_selector("text=Hello to you.")
    change(page, max_tokens=LONG)
    say(page, "count")
    until(page, "document.querySelectorAll('.message.assistant .body')[1]?.textContent.length > 20")
    ask(second, "bye")
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not(.busy)")
    until(page, "document.querySelectorAll('#conversations li').length === 2")
    said = page.evaluate(
        "JSON.parse(localStorage['lifecycle.conversations']).map(({ id }) => "
        "JSON.parse(localStorage[`lifecycle.conversation.${id}`]).nodes.map((node) => node.content))"
    )
    assert sum("bye" in one for one in said) == 1
    assert any("tick tick" in text for one in said for text in one)  # in both, where the second tab had seen it begin


def test_a_server_that_comes_back_is_found(open_page, catalog, serve):
    first = run_in_thread(create_app(catalog, HttpConfig(tick_seconds=0.05)))
    page = open_page(first.url)
    assert ask(page, "hello") == "Hello to you."
    page.click("#tab-engine")
    page.wait_for_selector("#engine-state >> text=live")
    first.close()
    page.click("#tab-chat")
    page.click("#new")
    say(page, "bye")
    page.wait_for_selector(".failure >> text=cannot be reached")
    serve(create_app(catalog, HttpConfig(tick_seconds=0.05)), urlsplit(first.url).port)
    page.click("text=Try again")
    page.wait_for_selector("text=See you soon.")
    page.click("#tab-engine")
    page.wait_for_selector("#engine-state >> text=live")


def test_a_page_opened_too_early_finds_its_models(open_page, server):
    page = open_page()
    page.route("**/v1/models", lambda route: route.abort())
    page.route("**/examples", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#welcome-lineage >> text=cannot be reached")
    page.unroute("**/v1/models")
    page.unroute("**/examples")
    page.wait_for_selector("#examples button")
    assert page.input_value("#model") == "pupil"


def test_a_page_from_another_machine_works_without_https(page):
    """There a browser has neither randomUUID nor a clipboard."""
    page.add_init_script("delete Crypto.prototype.randomUUID; delete Navigator.prototype.clipboard;")
    page.reload()
    page.wait_for_selector("#examples button")
    assert ask(page, "hello") == "Hello to you."
    page.click("text=Copy")
    page.wait_for_selector("text=Not allowed here")
