"""Debian's Chromium, a real server, and a real model that knows its lessons."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from flask import Flask

from lifecycle.registry import ModelRegistry
from serving.presentation.app import create_app
from serving.presentation.local import LocalServer, run_in_thread
from serving.presentation.state import HttpConfig

from .pupil import teach
from .talking import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera, and nobody asks whether it may be used
    "--use-fake-ui-for-media-stream",
)
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}


@pytest.fixture(scope="package")
def browser():
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium, and with CI set the page has to be tested: apt-get install chromium")
        pytest.skip("there is no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    registry = ModelRegistry(tmp_path_factory.mktemp("registry"))
    teach(registry)
    return registry


@pytest.fixture(scope="package")
def catalog(registry: ModelRegistry):
    from serving.composition import ServingConfig, build_catalog

    catalog = build_catalog(["pupil/1", "rude/1"], ServingConfig(dtype="float32", kv_memory_mb=16), registry)
    yield catalog
    for model in catalog.all():
        model.engine.close()


@pytest.fixture
def serve():
    """Serves an app of a test's own until the test is over."""
    running = []

    def serve(app: Flask, port: int = 0) -> LocalServer:
        running.append((app, run_in_thread(app, port)))
        return running[-1][1]

    yield serve
    for app, server in running:
        app.extensions["serving"].draining.set()
        server.close()


@pytest.fixture(scope="package")
def server(catalog, registry) -> Iterator[LocalServer]:
    config = HttpConfig(tick_seconds=0.05, examples=("hello", "use markdown"), registry=registry.root)
    app = create_app(catalog, config)
    with run_in_thread(app) as server:
        yield server
        app.extensions["serving"].draining.set()  # viewers of the engine leave


@pytest.fixture(scope="package")
def shared(browser):
    """One browser window for most tests: what is cached stays, and opening it takes longer than many a test."""
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(1000 * PATIENCE)
    yield context
    context.close()


@pytest.fixture
def wrong():
    """What went wrong in the pages of a test: nothing."""
    wrong: list[str] = []
    yield wrong
    assert wrong == []


@pytest.fixture
def open_page(browser, server, wrong):
    """Opens the page in a window of its own."""
    contexts = []

    def open_page(url: str = server.url, **options):
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE)
        return visit(context.new_page(), url, wrong)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(shared, server, wrong):
    """The page as somebody sees it who was never here before."""
    page = shared.new_page()
    stored = {"origin": server.url, "storageTypes": "local_storage"}
    shared.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
    visit(page, server.url, wrong)
    page.wait_for_selector("#examples button")
    yield page
    for one in shared.pages:
        one.close()


def visit(page, url: str, wrong: list[str]):
    """Opens the page in a tab; what goes wrong in it ends up in `wrong`."""
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(url + "/")
    return page
