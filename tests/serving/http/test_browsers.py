"""What web pages may do: the server's own everything, named origins the API, all others nothing."""

import pytest
from click.testing import CliRunner
from scripted_engine import Catalog, scripted_model

from lifecycle.errors import LifecycleError
from serving.commands import serve
from serving.presentation.app import create_app
from serving.presentation.hosts import is_origin, names_this_machine
from serving.presentation.state import HttpConfig

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"
FRIEND, STRANGER = "https://friend.example:8443", "https://stranger.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-stainless-os"}


def client_of(key=None, *origins):
    return create_app(Catalog(scripted_model("hi")), HttpConfig(api_key=key, cors_origins=origins)).test_client()


def headers(key=None, **others):
    return ({"Authorization": f"Bearer {key}"} if key else {}) | others


@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_named_origin_may_use_the_api(key, stream):
    client = client_of(key, FRIEND)
    asked = client.options(CHAT, headers={"Origin": FRIEND, **PREFLIGHT})
    assert asked.status_code == 204, "browsers send no key with the question"
    assert asked.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert asked.headers["Access-Control-Allow-Headers"] == "authorization, x-stainless-os"
    answer = client.post(CHAT, json={**HELLO, "stream": stream}, headers=headers(key, Origin=FRIEND))
    assert answer.status_code == 200 and answer.mimetype == ("text/event-stream" if stream else "application/json")
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Origin" in answer.headers["Vary"] and "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_page_can_read_why_it_was_refused():
    client = client_of("secret", FRIEND)
    for answer, status in (
        (client.post(CHAT, json=HELLO, headers={"Origin": FRIEND}), 401),
        (client.post(CHAT, json={}, headers=headers("secret", Origin=FRIEND)), 400),
        (client.get("/v1/nothing", headers={"Origin": FRIEND}), 404),
    ):
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND


@pytest.mark.parametrize("origins", [(), (FRIEND,)])
@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize(
    "origin", [STRANGER, "null", "https://friend.example", FRIEND + "/", "http://friend.example:8443", FRIEND + ".evil"]
)
def test_another_origin_gets_no_permission(origins, key, origin):
    client = client_of(key, *origins)
    for answer in (
        client.options(CHAT, headers={"Origin": origin, **PREFLIGHT}),
        client.post(CHAT, json=HELLO, headers=headers(key, Origin=origin)),
        client.get("/v1/models", headers=headers(key, Origin=origin)),
    ):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_without_a_key_a_strangers_page_changes_nothing():
    client = client_of()
    for origin in (STRANGER, "null"):
        answer = client.post("/admin/policy", json={"policy": "fair"}, headers={"Origin": origin})
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "forbidden")
    assert client.post(CHAT, json=HELLO, headers={"Origin": "http://localhost"}).status_code == 200, "its own page"
    assert client.post(CHAT, json=HELLO, headers={"Origin": "http://localhost:81"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:8000", True),
        ("127.1.2.3", True),
        ("[::1]:8000", True),
        ("app.localhost:8000", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("10.0.0.1:8000", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_server_without_a_key_answers_only_to_names_of_this_machine(host, ours):
    assert names_this_machine(host) is ours
    status = client_of().get("/v1/models", headers={"Host": host}).status_code
    assert status == (200 if ours else 403) or not host
    if host and not ours and "@" not in host and host != "[::1":
        assert client_of().get("/", headers={"Host": host}).status_code == 403
        assert client_of("secret").get("/v1/models", headers=headers("secret", Host=host)).status_code == 200


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("https://example.org", True),
        ("http://localhost:3000", True),
        ("http://[::1]:3000", True),
        ("*", False),
        ("null", False),
        ("example.org", False),
        ("https://example.org/", False),
        ("https://example.org/page", False),
        ("https://*.example.org", False),
        ("https://a@example.org", False),
        ("https://example.org:99999", False),
        ("app://some.program", True),
        ("file://", False),
        ("https//example.org", False),
        ("https://", False),
    ],
)
def test_only_an_exact_origin_can_be_named(value, valid):
    assert is_origin(value) is valid
    if not valid:
        with pytest.raises(LifecycleError, match="is no origin"):
            CliRunner().invoke(serve, ["--cors-origin", value], catch_exceptions=False)
