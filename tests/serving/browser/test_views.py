"""The engine as it works, and the registry, in a real browser."""

from __future__ import annotations

import json
import threading
import urllib.request

from .conftest import PHONE
from .talking import ask, until

INK = """() => {
  const canvas = document.querySelector("#timeline");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = { prefill: 0, decode: 0 };
  for (let at = 0; at < pixels.length; at += 4) {
    const [red, green, blue] = pixels.slice(at, at + 3);
    if (red === 224 && green === 138 && blue === 44) found.prefill += 1;
    if (red === 63 && green === 124 && blue === 172) found.decode += 1;
  }
  return found.prefill > 0 && found.decode > 0;
}"""


def complete(server, text: str, tokens: int) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": tokens}).encode()
    request = urllib.request.Request(
        server.url + "/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=60).read()


def test_the_timeline_moves_while_the_engine_works(page, server, catalog):
    page.click("#tab-engine")
    page.wait_for_selector("#engine-state >> text=live")
    asking = [threading.Thread(target=complete, args=(server, "count", 400)) for _ in range(3)]
    for thread in asking:
        thread.start()
    until(page, "document.querySelector('#timeline-text').textContent.startsWith('Step')")
    first = page.locator("#timeline-text").inner_text()
    until(page, f"document.querySelector('#timeline-text').textContent !== {json.dumps(first)}")
    until(page, INK)
    for thread in asking:
        thread.join()
    until(page, "document.querySelectorAll('#queue li').length >= 3")
    until(page, "document.querySelector('#queue').textContent.includes('length')")
    assert page.locator("#fig-ttft").inner_text().endswith("s")
    assert page.locator("#fig-itl-more").inner_text().startswith("p90")
    until(page, "document.querySelector('#blocks-text').textContent.includes('blocks')")


def test_nobody_is_followed_when_the_view_is_left(page, catalog):
    watch = catalog.all()[0].watch
    page.click("#tab-engine")
    page.wait_for_selector("#engine-state >> text=live")
    assert watch.viewers == 1
    page.click("#tab-chat")
    assert ask(page, "hello") == "Hello to you."
    page.click("#tab-engine")
    page.wait_for_selector("#engine-state >> text=live")
    until(page, "document.querySelector('#queue li') !== null")


def test_the_policy_is_switched_while_serving(page, catalog):
    page.click("#tab-engine")
    page.wait_for_selector("#policy option", state="attached")
    page.select_option("#policy", "sjf")
    page.wait_for_selector("#policy-text >> text=sjf since this step")
    assert catalog.all()[0].engine.stats().policy == "sjf"
    page.select_option("#policy", "mixed-chunked")
    page.wait_for_selector("#policy-text >> text=mixed-chunked since this step")


def test_the_registry_shows_lineage_differences_and_cards(page):
    page.click("#tab-registry")
    page.wait_for_selector("[data-ref='pupil/1'].a")
    assert page.locator(".node").count() == 4
    assert page.locator(".edge.on").count() >= 1
    page.click("text=Facts")
    page.wait_for_selector("#version td >> text=seed/1")
    page.click("text=Model card")
    page.wait_for_selector("#version .prose h1 >> text=pupil/1")
    page.click("[data-ref='seed/1']", modifiers=["Shift"])
    page.wait_for_selector("#version caption >> text=metrics")
    assert "lessons" in page.locator("#version").inner_text()


def test_only_what_may_be_promoted_is_offered_and_the_reason_given(page):
    page.click("#tab-registry")
    page.click("[data-ref='seed/1']")
    page.wait_for_selector("#refusal")
    assert "only deployed versions become production" in page.locator("#refusal").inner_text()
    assert page.locator("#promote").count() == 0


def test_nothing_is_wider_than_a_phone(open_page):
    page = open_page(viewport=PHONE, has_touch=True)
    page.wait_for_selector("#examples button")
    ask(page, "be hostile")
    wide = """() => [...document.querySelectorAll("body *")].filter((node) => {
        const box = node.getBoundingClientRect();
        return box.width && box.right > innerWidth + 1 && !node.closest(".lineage-box, pre, table");
    }).map((node) => node.outerHTML.slice(0, 80))"""
    for view, sign in [("chat", ".facts"), ("engine", "#engine-state >> text=live"), ("registry", ".node")]:
        page.click(f"#tab-{view}")
        page.wait_for_selector(sign, state="attached")
        assert page.evaluate(wide) == [], view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    chosen = page.locator(".node.a").bounding_box()
    assert chosen["x"] >= 0 and chosen["x"] + chosen["width"] <= PHONE["width"]
