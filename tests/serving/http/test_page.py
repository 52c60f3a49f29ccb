"""The chat page is served whole, offline, and without a way to run anything else."""

import re
from pathlib import Path

import pytest
from scripted_engine import Catalog, scripted_model

import serving.presentation
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

STATIC = Path(serving.presentation.__file__).parent / "static"


@pytest.fixture
def client():
    return create_app(Catalog(scripted_model("hi")), HttpConfig(examples=("One?", "Two?"))).test_client()


def test_every_file_the_page_names_is_served(client):
    page = client.get("/")
    assert page.mimetype == "text/html"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    names = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert sorted(names) == ["static/chat.css", "static/chat.js"]
    for name in names:
        assert client.get("/" + name).status_code == 200


def test_the_page_needs_nothing_from_elsewhere():
    for file in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\s\"'<>]+", file.read_text())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, file.name


def test_the_page_never_turns_text_into_markup():
    script = (STATIC / "chat.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_every_element_the_script_asks_for_is_on_the_page():
    ids = set(re.findall(r'id="([\w-]+)"', (STATIC / "chat.html").read_text()))
    assert set(re.findall(r'\$\("([\w-]+)"\)', (STATIC / "chat.js").read_text())) <= ids


def test_examples_and_numbers_for_the_page(client):
    assert client.get("/examples").json == {"examples": ["One?", "Two?"], "needs_key": False}
    (stats,) = client.get("/stats").json["models"]
    assert stats["model"] == "parrot"
    assert stats["kv_usage"] == 0.25
