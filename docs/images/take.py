"""Takes the README's pictures of the page: a real server with the registry's `production`, in Debian's Chromium.

    .venv/bin/python docs/images/take.py            # after `make demo`; writes docs/images/{chat,engine,registry}.png

Needs the test extra and chromium. The engine is caught in the middle of a burst of requests, so no two pictures are the same.
"""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from lifecycle.registry import ModelRegistry
from serving.commands import suggested_prompts
from serving.composition import ServingConfig, build_catalog
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.state import EXAMPLES, HttpConfig

HERE = Path(__file__).parent
SIZE = {"width": 1240, "height": 780}
STORY = "Tell me a story about Ben and Mia."


def chat(page: Page, url: str) -> None:
    page.click("#settings-toggle")
    page.click("#tools-example")
    say(page, "What is the weather in the park?")
    page.fill(".call input", "rainy")
    page.press(".call input", "Enter")
    page.wait_for_selector(".message:nth-of-type(3) .facts")
    page.fill("#tools", "")
    page.locator("#settings").evaluate("node => { node.scrollTop = 0; }")
    page.check("#logprobs")
    say(page, "What is 21 + 34?")
    page.get_by_role("button", name="Regenerate").last.click()
    page.wait_for_selector("text=2/2")
    page.wait_for_selector("body:not(.busy)")
    doubtful = "nodes => nodes.sort((a, b) => parseFloat(a.title) - parseFloat(b.title))[0].click()"
    page.locator(".message:last-child .token").evaluate_all(doubtful)
    page.locator(".alternatives").scroll_into_view_if_needed()


def engine(page: Page, url: str) -> None:
    page.click("#tab-engine")
    page.wait_for_selector("#engine-state >> text=live")
    asking = [threading.Thread(target=ask, args=(url, at), daemon=True) for at in range(140)]
    for thread in asking:
        thread.start()
        page.wait_for_timeout(8)
    page.wait_for_timeout(50)


def registry(page: Page, url: str) -> None:
    page.click("#tab-registry")
    page.click("#score")
    page.wait_for_selector(".skill", timeout=600_000)


PICTURES: dict[str, Callable[[Page, str], None]] = {"chat": chat, "engine": engine, "registry": registry}


def say(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    page.wait_for_selector("body:not(.busy)")
    page.wait_for_selector(".message:last-child .facts")


def ask(url: str, at: int) -> None:
    messages = [{"role": "user", "content": f"{at}: " + STORY * (1 + at % 5)}]
    body = {"messages": messages, "max_tokens": 200 + at % 7 * 30, "ignore_eos": True, "temperature": 1.0}
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).read()


def main() -> None:
    versions = ModelRegistry()
    catalog = build_catalog(["production"], ServingConfig(max_num_seqs=12, kv_memory_mb=4), versions)
    examples = suggested_prompts(versions.lineage("production")) or EXAMPLES
    app = create_app(
        catalog, HttpConfig(examples=examples, registry=versions.root), feedback=SqliteFeedback(":memory:")
    )
    with run_in_thread(app) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, prepare in PICTURES.items():
            page = browser.new_page(viewport=SIZE, color_scheme="dark" if name == "engine" else "light")
            page.goto(server.url)
            page.wait_for_selector("#examples button")
            prepare(page, server.url)
            page.screenshot(path=HERE / f"{name}.png")
            page.close()
        browser.close()
        app.extensions["serving"].draining.set()
    for model in catalog.all():
        model.engine.close()


if __name__ == "__main__":
    main()
