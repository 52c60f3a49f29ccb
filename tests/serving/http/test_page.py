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
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy and "unsafe" not in policy
    named = set(re.findall(r'(?:src|href)="static/([^"]+)"', page.text))
    imported = set(re.findall(r'(?:from "\./|addModule\("static/)([^"]+)"', "".join(file.read_text() for file in STATIC.glob("*.js"))))
    assert named | imported == {file.name for file in STATIC.iterdir()} - {"index.html"}
    for name in named | imported:
        assert client.get(f"/static/{name}").status_code == 200


def test_the_page_needs_nothing_from_elsewhere():
    for file in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\s\"'<>]+", file.read_text())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, file.name


def test_the_page_never_turns_text_into_markup_or_into_a_program():
    for script in STATIC.glob("*.js"):
        wrong = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|srcdoc"
        assert not re.search(wrong, script.read_text()), script.name


def test_every_element_a_script_asks_for_is_on_the_page():
    ids = set(re.findall(r'id="([\w-]+)"', (STATIC / "index.html").read_text()))
    for script in STATIC.glob("*.js"):
        assert set(re.findall(r'\$\("([\w-]+)"\)', script.read_text())) <= ids, script.name


def test_examples_and_numbers_for_the_page(client):
    assert client.get("/examples").json == {
        "examples": ["One?", "Two?"],
        "needs_key": False,
        "registry": False,
        "voice": False,
        "feedback": any(rule.rule == "/v1/feedback" for rule in client.application.url_map.iter_rules()),
    }
    (stats,) = client.get("/stats").json["models"]
    assert stats["model"] == "parrot"
    assert stats["kv_usage"] == 0.25
