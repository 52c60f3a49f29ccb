"""Keys in a file: what is kept, what is refused, what a running server notices."""

import hmac
import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from scripted_engine import Catalog, scripted_model

from lifecycle.errors import LifecycleError
from serving.commands import open_keys
from serving.domain.quota import Limits
from serving.infrastructure.api_keys import KeyFile, create_key, limit_tenant, read_keys, revoke_key
from serving.key_commands import keys as keys_command
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.jsonl"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def line(**changes) -> str:
    row = {"id": "0123abcd", "tenant": "acme", "hash": "0" * 64, **changes}
    return json.dumps({name: value for name, value in row.items() if value is not ...})


def test_a_key_opens_the_server_and_is_not_in_the_file(path):
    model = scripted_model("hi")
    key, stored = create_key(path, "acme")
    client = create_app(Catalog(model), keys=[KeyFile(path)]).test_client()
    secret = key.split("-", 2)[2]
    assert len(secret) >= 43, "256 bits"
    assert secret not in path.read_text() and stored.hash in path.read_text()
    assert os.stat(path).st_mode & 0o077 == 0
    assert client.post("/v1/chat/completions", json=HELLO, headers=bearer(key)).status_code == 200
    assert [request.tenant for request in model.engine.requests] == ["acme"]
    for wrong in ("", key[:-1], key + "x", f"lk-{stored.id}-", "lk-unknown-x", "lk", "\xff", stored.hash):
        assert client.post("/v1/chat/completions", json=HELLO, headers=bearer(wrong)).status_code == 401
    assert client.get("/v1/models").status_code == 401


def test_a_key_of_the_file_and_the_single_key_both_open(path):
    key, _ = create_key(path, "acme")
    client = create_app(Catalog(scripted_model("hi")), HttpConfig(api_key="one"), keys=[KeyFile(path)]).test_client()
    assert client.get("/examples").json["needs_key"] is True
    for right in (key, "one"):
        assert client.get("/v1/models", headers=bearer(right)).status_code == 200
    assert client.get("/admin/policy", headers=bearer("one")).status_code == 200, "it is of whoever started the server"


def test_only_an_admin_runs_the_server(path):
    user, admin = (create_key(path, "acme", admin=admin)[0] for admin in (False, True))
    client = create_app(Catalog(scripted_model("hi")), keys=[KeyFile(path)]).test_client()
    for route in ("/admin/policy", "/admin/requests"):
        assert client.get(route).status_code == 401
        answer = client.get(route, headers=bearer(user))
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "forbidden")
        assert client.get(route, headers=bearer(admin)).status_code == 200
    assert client.post("/admin/abort", json={"all": True}, headers=bearer(user)).status_code == 403
    assert client.post("/admin/drain", json={}, headers=bearer(user)).status_code == 403
    assert client.get("/readyz").status_code == 200


def test_every_route_but_the_open_ones_asks_for_a_key():
    app = create_app(Catalog(scripted_model("hi")), HttpConfig(api_key="secret"))
    for rule in app.url_map.iter_rules():
        if rule.endpoint.split(".")[0] in ("operations", "page", "openapi"):
            continue
        address = re.sub("<.*?>", "x", rule.rule)
        for method in rule.methods - {"OPTIONS"}:
            assert app.test_client().open(address, method=method).status_code == 401, (method, address)


@pytest.mark.parametrize("known", [True, False])
def test_hashes_are_compared_in_constant_time_whether_or_not_the_id_is_known(path, monkeypatch, known):
    key, stored = create_key(path, "acme")
    keys = KeyFile(path)
    compared = []

    def watched(a, b):
        compared.append((a, b))
        return original(a, b)

    original = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", watched)
    sent = f"lk-{stored.id if known else '00' * 8}-guess".encode()
    assert keys.find(sent) is None
    ((a, b),) = compared
    assert len(a) == len(b) == 64
    if known:
        assert keys.find(key.encode()).tenant == "acme" and len(compared) == 2


def test_a_running_server_sees_new_and_revoked_keys_and_survives_a_slip(path, caplog):
    first, stored = create_key(path, "acme")
    client = create_app(Catalog(scripted_model("hi")), keys=[KeyFile(path)]).test_client()

    def status(key):
        return client.get("/v1/models", headers=bearer(key)).status_code

    second, _ = create_key(path, "other")
    assert (status(first), status(second)) == (200, 200)
    revoke_key(path, stored.id)
    assert (status(first), status(second)) == (401, 200)
    good = path.read_text()
    path.write_text(good + "{broken\n")
    assert (status(first), status(second)) == (401, 200)
    assert f"{path}:2: expected a JSON object" in caplog.text
    path.unlink()
    assert status(second) == 200
    path.write_text("\n" + good)
    third, _ = create_key(path, "third")
    assert (status(second), status(third)) == (200, 200)
    path.write_text("")
    assert (status(second), status("")) == (401, 401), "no keys left is not the same as a server without keys"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", ":1: expected a JSON object"),
        ("[]", ":1: expected a JSON object"),
        ("[" * 100_000, ":1: expected a JSON object"),
        (line() + "\n\n" + line(id="x"), ':3: "id" must be hexadecimal digits'),
        (line(tenant="a b"), ':1: "tenant" must be'),
        (line(hash="abc"), ':1: "hash" must be 64 hexadecimal digits'),
        (line(hash=...), ':1: "hash" must be'),
        (line(admin=1), ':1: "admin" must be true or false'),
        (line(admni=True), ':1: unknown field "admni". Did you mean "admin"?'),
        (line(concurrent=0), ':1: "concurrent" must be a whole number above 0'),
        (line(requests_per_minute=True), ':1: "requests_per_minute" must be'),
        (line() + "\n" + line(), ':2: the id "0123abcd" occurs twice'),
        (line() + "\n" + line(id="4567", concurrent=2), ':2: tenant "acme" has other limits'),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(path, text, expected):
    path.write_text(text)
    with pytest.raises(LifecycleError) as error:
        open_keys(path)
    assert str(path) + expected in str(error.value)


def test_a_server_that_nobody_could_use_does_not_start(path):
    with pytest.raises(LifecycleError, match="lifecycle keys"):
        open_keys(path)
    path.write_text("\n")
    with pytest.raises(LifecycleError, match="has no keys"):
        open_keys(path)
    path.write_bytes(b"\xff")
    with pytest.raises(LifecycleError, match="UTF-8"):
        open_keys(path)


def test_a_tenant_has_one_set_of_limits(path):
    create_key(path, "acme", limits=Limits(60, None, 2))
    _, second = create_key(path, "acme")
    assert second.limits == Limits(60, None, 2), "inherited"
    with pytest.raises(LifecycleError, match="lifecycle keys limit acme"):
        create_key(path, "acme", limits=Limits(1, None, None))
    assert limit_tenant(path, "acme", Limits(1, 2, 3)) == 2
    assert {key.limits for key in read_keys(path)} == {Limits(1, 2, 3)}


def test_the_commands(path):
    def run(*arguments):
        result = CliRunner().invoke(keys_command, ["--file", str(path), *arguments], catch_exceptions=False)
        return result.stdout

    key = run("create", "--tenant", "acme", "--rate", "60", "--concurrent", "4").strip()
    admin = run("create", "--tenant", "boss", "--admin").strip()
    assert KeyFile(path).find(key.encode()).limits == Limits(60, None, 4)
    assert KeyFile(path).find(admin.encode()).admin
    listed = run("list")
    assert "acme  user  60 requests/min, 4 at the same time" in listed and "boss  admin  no limits" in listed
    assert key not in listed and admin not in listed
    assert run("limit", "acme", "--tokens", "1000") == "acme: 1000 tokens/min (1 key)\n"
    id_ = key.split("-")[1]
    assert run("revoke", id_).startswith(f"revoked: {id_}  acme")
    assert KeyFile(path).find(key.encode()) is None
    for wrong, expected in (
        (["revoke", id_], "no key"),
        (["limit", "acme", "--rate", "1"], "no tenant"),
        (["create", "--tenant", "a/b"], "cannot be a tenant"),
    ):
        with pytest.raises(LifecycleError, match=expected):
            run(*wrong)


def test_keys_made_at_the_same_time_are_all_kept(path):
    code = (
        "import sys; from pathlib import Path; from serving.infrastructure.api_keys import create_key\n"
        "for number in range(20): create_key(Path(sys.argv[1]), sys.argv[2])"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in ("a", "b", "c")]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert len({key.id for key in read_keys(path)}) == 60
