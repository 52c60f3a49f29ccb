"""The page of a server with keys: chatting is for everybody who has one, the other views are for admins."""

from __future__ import annotations

import pytest

from serving.infrastructure.api_keys import KeyFile, create_key
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

from .talking import ask, until


@pytest.fixture
def keys(tmp_path):
    """(the key file, a pupil's key, an admin's key)."""
    path = tmp_path / "keys"
    return path, create_key(path, "school")[0], create_key(path, "staff", admin=True)[0]


def enter(page, key: str) -> None:
    page.wait_for_selector("#key-form:not([hidden])")
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.wait_for_selector("#key-form", state="hidden")


@pytest.mark.parametrize(("view", "sign"), [("engine", "#engine-state >> text=live"), ("registry", ".node")])
def test_views_for_admins_say_so_and_the_chat_works(open_page, serve, catalog, registry, keys, view, sign):
    path, pupil, admin = keys
    page = open_page(serve(create_app(catalog, HttpConfig(registry=registry.root), keys=[KeyFile(path)])).url)
    enter(page, pupil)
    until(page, "document.querySelector('#model').value === 'pupil'")
    page.click(f"#tab-{view}")
    page.wait_for_selector(f"#{view} .notice >> text=admin")
    assert page.locator(f"#{view} .panel:visible").count() == 0
    page.click("#tab-chat")
    assert ask(page, "hello") == "Hello to you."
    page.click(f"#tab-{view}")
    page.click("text=Enter another key")
    enter(page, admin)
    page.wait_for_selector(sign)
    assert page.locator(f"#{view} .notice").count() == 0


def test_the_form_for_a_key_can_be_closed(open_page, serve, catalog, keys):
    path, pupil, _ = keys
    page = open_page(serve(create_app(catalog, keys=[KeyFile(path)])).url)
    page.wait_for_selector("#key-form:not([hidden])")
    page.press("#key", "Escape")
    assert page.is_hidden("#key-form")
    page.fill("#prompt", "hello")
    page.press("#prompt", "Enter")
    page.wait_for_selector(".failure >> text=enter it above")
    enter(page, pupil)
    page.click("text=Try again")
    page.wait_for_selector("text=Hello to you.")
