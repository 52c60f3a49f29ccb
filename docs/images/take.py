"""Takes the README's pictures of the page: a real server with the registry's `production`, in Debian's Chromium.

    .venv/bin/python docs/images/take.py            # after `make demo`; writes docs/images/{chat,engine,registry}.png
    .venv/bin/python docs/images/take.py see@latest # after `lifecycle see`; writes docs/images/seeing.png

Needs the test extra and chromium. The engine is caught in the middle of a burst of requests, so no two pictures are the same.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from lifecycle.registry import ModelRegistry
from lifecycle.world.sights.questions import Question, correct
from lifecycle.world.sights.sampling import scenes
from serving.commands import suggested_prompts
from serving.composition import ServingConfig, build_catalog
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader
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


def seeing(page: Page, url: str) -> None:
    """A picture of the visual world, the first that is asked about rightly answered; its last word is pointed at."""
    picture, question = next(told for told in asked_about() if right(url, *told))
    page.wait_for_selector("#attachments label")
    content = {"name": "picture.png", "mimeType": "image/png", "buffer": picture}
    page.set_input_files("input[aria-label='Attach image']", content)
    page.wait_for_selector("#attached img")
    say(page, question.text)
    page.click("text=Where it looked")
    page.click("text=Patches and tokens")
    page.locator(".gaze .token").nth(-2).hover()
    page.locator(".gaze-bar").scroll_into_view_if_needed()


def asked_about() -> Iterator[tuple[bytes, Question]]:
    """PNG files of the held-out split, each with a question."""
    for scene in scenes(11, "test", ["position"]):
        file = io.BytesIO()
        scene.picture(448).save(file, "PNG")
        yield from ((file.getvalue(), question) for question in scene.questions() if question.skill == "position")


def right(url: str, picture: bytes, question: Question) -> bool:
    """Whether the served model answers a question about a picture rightly."""
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(picture).decode()}}
    messages = [{"role": "user", "content": [shown, {"type": "text", "text": question.text}]}]
    answer = post(url, {"messages": messages, "temperature": 0})["choices"][0]["message"]["content"]
    return correct(question, answer)


PICTURES: dict[str, Callable[[Page, str], None]] = {"chat": chat, "engine": engine, "registry": registry}
SEEING = {"seeing": seeing}


def say(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    page.wait_for_selector("body:not(.busy)")
    page.wait_for_selector(".message:last-child .facts")


def ask(url: str, at: int) -> None:
    messages = [{"role": "user", "content": f"{at}: " + STORY * (1 + at % 5)}]
    post(url, {"messages": messages, "max_tokens": 200 + at % 7 * 30, "ignore_eos": True, "temperature": 1.0})


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return json.loads(urllib.request.urlopen(request).read())


def main(ref: str = "production") -> None:
    versions = ModelRegistry()
    catalog = build_catalog([ref], ServingConfig(max_num_seqs=12, kv_memory_mb=4), versions)
    examples = suggested_prompts(versions.lineage(ref)) or EXAMPLES
    app = create_app(
        catalog,
        HttpConfig(examples=examples, registry=versions.root),
        feedback=SqliteFeedback(":memory:"),
        media=MediaReader(MediaLimits()),
    )
    with run_in_thread(app) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, prepare in (SEEING if catalog.all()[0].sees else PICTURES).items():
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
    main(*sys.argv[1:])
