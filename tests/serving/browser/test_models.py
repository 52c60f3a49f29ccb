"""Models and adapters that come and go while somebody looks."""

from __future__ import annotations

import json
import urllib.request

import pytest

from serving.composition import ServingConfig, build_catalog
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

from .talking import ask, until


@pytest.fixture(scope="module")
def adapted(registry):
    """`pupil` with the adapter `accent`, and `rude`."""
    catalog = build_catalog(
        ["pupil/1", "rude/1"], ServingConfig(dtype="float32", kv_memory_mb=8, adapters=True), registry
    )
    catalog.add_adapter("accent", "accent/1")
    yield catalog
    for model in catalog.engines():
        model.engine.close()


@pytest.fixture
def local(serve, adapted):
    return serve(create_app(adapted, HttpConfig(tick_seconds=0.05)))


def test_an_adapter_is_watched_in_the_engine_of_its_parent(open_page, local, adapted):
    page = open_page(local.url)
    page.wait_for_selector("#model option >> nth=2", state="attached")
    page.select_option("#model", "accent")
    with page.expect_request("**/engine/events*") as caught:
        page.click("#tab-engine")
    assert caught.value.url.endswith("?model=pupil")
    page.wait_for_selector("#engine-state >> text=live")
    assert page.locator("#engine-of").inner_text() == "pupil with accent"
    page.click("#tab-chat")
    ask(page, "hello")
    page.click("#tab-engine")
    page.wait_for_selector("#queue li")
    page.wait_for_selector("#policy option", state="attached")
    page.select_option("#policy", "sjf")
    page.wait_for_selector("#policy-text >> text=sjf since this step")
    assert [model.engine.stats().policy for model in adapted.engines()] == ["sjf", "mixed-chunked"]
    page.select_option("#model", "rude")
    until(page, "document.querySelector('#engine-of').textContent === 'rude'")
    until(page, "document.querySelector('#policy').value === 'mixed-chunked'")


def test_the_view_of_an_unloaded_model_goes_over_to_another(open_page, local, adapted):
    page = open_page(local.url)
    page.wait_for_selector("#model option >> nth=2", state="attached")
    page.select_option("#model", "rude")
    page.click("#tab-engine")
    page.wait_for_selector("#engine-state >> text=live")
    watch = adapted.get("rude").watch
    assert watch.viewers == 1
    request = urllib.request.Request(local.url + "/admin/models/rude", method="DELETE")
    assert json.load(urllib.request.urlopen(request))["deleted"]
    until(page, "document.querySelector('#engine-of').textContent === 'pupil with accent'")
    page.wait_for_selector("#engine-state >> text=live")
    assert watch.viewers == 0
    assert page.locator("#model option").all_inner_texts() == ["pupil", "accent"]


def test_a_question_to_an_unloaded_model_is_refused_and_the_choice_renewed(open_page, local, adapted):
    if "rude" not in [model.name for model in adapted.all()]:
        adapted.load("rude/1", kv_memory_mb=8)
    page = open_page(local.url)
    page.wait_for_selector("#model option >> nth=2", state="attached")
    page.select_option("#model", "rude")
    adapted.unload("rude", 5.0)
    page.fill("#prompt", "hello")
    page.press("#prompt", "Enter")
    page.wait_for_selector(".failure code")
    until(page, "document.querySelector('#model').value === 'pupil'")
    page.click("text=Try again")
    page.wait_for_selector("text=Hello to you.")
