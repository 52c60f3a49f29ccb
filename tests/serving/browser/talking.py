"""What a person does on the page, in one word each."""

from __future__ import annotations

import time

PATIENCE = 60.0  # seconds; a bound for broken pages, never waited out by sound ones
LOOK = 20  # milliseconds between two looks

def say(page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def ask(page, text: str) -> str:
    """Say something and wait until nothing is written any more; the last answer."""
    say(page, text)
    page.wait_for_selector(".message.assistant .facts, .message.assistant .failure, .call")
    return last_answer(page)


def last_answer(page) -> str:
    page.wait_for_selector("body:not(.busy)")
    return page.locator(".message.assistant").last.locator(".body").inner_text()


def change(page, **settings) -> None:
    """Open the settings and fill them in: text, or True for a switch."""
    if not page.is_visible("#settings"):
        page.click("#settings-toggle")
    for name, value in settings.items():
        field = page.locator("#" + name.replace("__", "-"))
        if value is True:
            field.check()
        elif field.evaluate("node => node.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(str(value))
            field.dispatch_event("change")


def until(page, condition: str, patience: float = PATIENCE) -> None:
    """Wait for a JavaScript expression or function to become true.

    Playwright's own `wait_for_function` would evaluate text inside the page, which its Content-Security-Policy forbids.
    """
    deadline = time.monotonic() + patience
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"never true: {condition}"
        page.wait_for_timeout(LOOK)
