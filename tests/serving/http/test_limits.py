"""What a tenant may use: counted exactly, given back on every path, and never taken from somebody else."""

import copy
import threading
from dataclasses import replace

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import Catalog, scripted_model

from serving.application.access import Caller
from serving.application.quota import Limiter
from serving.domain.errors import QueueFull, RateLimited
from serving.domain.quota import Bucket, Limits
from serving.presentation.app import create_app
from serving.presentation.guard import duration, outlive
from serving.presentation.local import run_in_thread

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Tenants:
    """`Keys` where a key is its tenant's name."""

    def __init__(self, **limits: Limits):
        self.limits = limits

    def find(self, key):
        limits = self.limits.get(key.decode("latin-1"))
        return None if limits is None else Caller(key.decode(), limits=limits, named=True)


def app_of(model, clock=None, **limits):
    app = create_app(Catalog(model), keys=[Tenants(**limits)])
    state = app.extensions["serving"]
    if clock is not None:
        state.limiter = Limiter(clock)
    return app, state.limiter


def post(app, tenant, body=HELLO, route=CHAT, **options):
    return app.test_client().post(route, json=body, headers={"Authorization": f"Bearer {tenant}"}, **options)


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5)), max_size=50))
def test_a_bucket_never_gives_more_than_a_burst_and_the_rate(capacity, steps):
    now, taken, bucket = 0.0, 0, Bucket(capacity, 0.0)
    for pause, wanted in steps:
        now += pause
        for _ in range(wanted):
            wait = bucket.seconds_until(1, now)
            if wait == 0:
                bucket.take(1, now)
                taken += 1
            else:
                later = copy.copy(bucket)
                assert later.seconds_until(1, now + wait + 1e-6) == 0, "what it says is when it will give"
        assert taken <= capacity * (1 + now / 60) + 1e-6


def test_requests_per_minute():
    clock = Clock()
    app, _ = app_of(scripted_model("hi"), clock, acme=Limits(requests_per_minute=2), other=Limits())
    first, second, third = (post(app, "acme") for _ in range(3))
    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, third)] == ["1", "0", "0"]
    assert first.headers["x-ratelimit-limit-requests"] == "2" and first.headers["x-ratelimit-reset-requests"] == "30s"
    assert third.headers["Retry-After"] == "30"
    error = third.json["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "requests_limit_exceeded")
    assert "x-ratelimit-limit-tokens" not in first.headers
    assert post(app, "other").status_code == 200, "one tenant's limit is nobody else's"
    clock.now += 29
    assert post(app, "acme").headers["Retry-After"] == "1", "a refused request costs nothing"
    clock.now += 1
    assert post(app, "acme").status_code == 200


def test_tokens_per_minute_are_charged_at_the_end_and_paid_back():
    clock = Clock()
    app, _ = app_of(scripted_model("x" * 50), clock, acme=Limits(tokens_per_minute=60))
    answer = post(app, "acme")
    assert answer.status_code == 200 and answer.headers["x-ratelimit-remaining-tokens"] == "60"
    cost = answer.json["usage"]["total_tokens"]
    assert cost > 60, "one request may cost more than there is"
    refused = post(app, "acme")
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "tokens_limit_exceeded")
    assert refused.headers["Retry-After"] == str(cost - 60 + 1)
    clock.now += cost - 60 + 1
    assert post(app, "acme").status_code == 200


def test_a_stream_is_charged_too():
    app, limiter = app_of(scripted_model("x" * 50), Clock(), acme=Limits(tokens_per_minute=60))
    answer = post(app, "acme", {**HELLO, "stream": True})
    assert answer.data.endswith(b"data: [DONE]\n\n")
    answer.close()
    assert post(app, "acme").status_code == 429


def test_concurrency_holds_a_place_until_the_last_byte():
    model = scripted_model("hello")
    app, limiter = app_of(model, acme=Limits(concurrent=1))
    stream = post(app, "acme", {**HELLO, "stream": True})
    pieces = iter(stream.response)
    next(pieces)
    refused = post(app, "acme")
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "concurrency_limit_exceeded")
    assert refused.headers["Retry-After"] == "1"
    assert len(model.engine.requests) == 1, "refused before the engine heard of it"
    assert limiter.running("acme") == 1
    for _ in pieces:
        pass
    stream.close()
    assert limiter.running("acme") == 0
    assert post(app, "acme").status_code == 200


def _leave_before_the_first_byte(app, model):
    post(app, "acme", {**HELLO, "stream": True}).close()


def _leave_in_the_middle(app, model):
    model.engine.hang = True
    response = post(app, "acme", {**HELLO, "stream": True})
    next(iter(response.response))
    response.close()


def _fail_in_the_engine(app, model):
    model.engine.error = "out of luck"
    assert post(app, "acme").status_code == 500


def _fail_in_a_stream(app, model):
    model.engine.error = "out of luck"
    response = post(app, "acme", {**HELLO, "stream": True})
    assert b"out of luck" in response.data
    response.close()


def _be_refused_by_the_queue(app, model):
    model.engine.refuse_after = 0
    assert post(app, "acme").status_code == 429


def _send_nonsense(app, model):
    assert post(app, "acme", {"messages": 5}).status_code == 400
    assert post(app, "acme", None, data=b"{").status_code == 415
    assert post(app, "acme", {**HELLO, "model": "gpt-9"}).status_code == 404
    assert post(app, "acme", route="/v1/models").status_code == 405
    assert post(app, "acme", route="/v1/nothing").status_code == 404


def _break_the_server(app, model):
    model.engine.submit = None
    assert post(app, "acme").status_code == 500


@pytest.mark.parametrize(
    "end",
    [
        lambda app, model: post(app, "acme"),
        _leave_before_the_first_byte,
        _leave_in_the_middle,
        _fail_in_the_engine,
        _fail_in_a_stream,
        _be_refused_by_the_queue,
        _send_nonsense,
        _break_the_server,
    ],
)
def test_a_place_is_free_again_however_a_request_ends(end):
    model = scripted_model("hello")
    app, limiter = app_of(model, acme=Limits(concurrent=1, requests_per_minute=100, tokens_per_minute=10**6))
    end(app, model)
    assert limiter.running("acme") == 0


def test_a_place_is_free_again_even_if_nothing_comes_of_the_response():
    app, limiter = app_of(scripted_model("hello"), acme=Limits(concurrent=1))

    @app.after_request
    def broken(response):
        raise RuntimeError("a bug")

    for _ in range(2):
        assert post(app, "acme").status_code == 500
    assert limiter.running("acme") == 0


def test_what_goes_on_after_its_response_keeps_its_place_until_it_ends():
    app, limiter = app_of(scripted_model("hello"), acme=Limits(concurrent=1))
    endings = []

    @app.post("/v1/later")
    def later():
        endings.append(outlive())
        return "begun", 202

    assert post(app, "acme", route="/v1/later").status_code == 202
    assert limiter.running("acme") == 1 and post(app, "acme").status_code == 429
    (end,) = endings
    thread = threading.Thread(target=end)  # without a request around it
    thread.start()
    thread.join()
    assert limiter.running("acme") == 0
    assert post(app, "acme").status_code == 200


def all_ended(limiter, tenant):
    pause = threading.Event()
    for _ in range(1000):
        if not limiter.running(tenant):
            return
        pause.wait(0.02)
    raise AssertionError("a place was never given back")


def test_a_response_in_the_background_can_be_cancelled_by_who_has_no_place_left():
    model = scripted_model("hello")
    model.engine.hang = True
    app, limiter = app_of(model, acme=Limits(concurrent=1))
    begun = post(app, "acme", {"input": "hello", "background": True}, "/v1/responses")
    assert begun.status_code == 200 and post(app, "acme").status_code == 429
    assert post(app, "acme", None, f"/v1/responses/{begun.json['id']}/cancel").status_code == 200
    all_ended(limiter, "acme")


def test_a_response_in_the_background_is_charged_at_its_end():
    clock = Clock()
    app, limiter = app_of(scripted_model("hello"), clock, acme=Limits(tokens_per_minute=1))
    begun = post(app, "acme", {"input": "hello", "background": True}, "/v1/responses")
    assert begun.status_code == 200
    all_ended(limiter, "acme")
    assert post(app, "acme").json["error"]["code"] == "tokens_limit_exceeded"


@pytest.mark.parametrize(("extra", "status"), [({}, 200), ({"dimensions": 3}, 400)])
def test_vectors_are_charged_even_if_nobody_wants_them(extra, status):
    model = replace(scripted_model("hello"), embed=lambda texts: [[1.0, 0.0] for _ in texts])
    app, _ = app_of(model, Clock(), acme=Limits(tokens_per_minute=1))
    assert post(app, "acme", {"input": "hello hello", **extra}, "/v1/embeddings").status_code == status
    assert post(app, "acme").json["error"]["code"] == "tokens_limit_exceeded"


def test_texts_that_nobody_has_time_to_read_cost_nothing():
    def busy(texts):
        raise QueueFull("other texts are being read")

    app, _ = app_of(replace(scripted_model("hello"), embed=busy), Clock(), acme=Limits(tokens_per_minute=1))
    refused = post(app, "acme", {"input": "hello hello"}, "/v1/embeddings")
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "queue_full")
    assert post(app, "acme").status_code == 200


def test_counting_holds_under_threads():
    limiter, limits = Limiter(Clock()), Limits(requests_per_minute=500, concurrent=8)
    admitted, most = [], []

    def ask():
        for _ in range(200):
            try:
                lease = limiter.admit("acme", limits)
            except RateLimited:
                continue
            most.append(limiter.running("acme"))
            admitted.append(1)
            lease.release()
            lease.release()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 500 and max(most) <= 8
    assert limiter.running("acme") == 0


def test_limits_that_change_hold_from_the_next_request_on():
    clock = Clock()
    limiter = Limiter(clock)
    for _ in range(3):
        limiter.admit("acme", Limits(requests_per_minute=3)).release()
    with pytest.raises(RateLimited):
        limiter.admit("acme", Limits(requests_per_minute=3))
    with pytest.raises(RateLimited):
        limiter.admit("acme", Limits(requests_per_minute=100))
    limiter.admit("acme", Limits()).release()
    clock.now += 0.6
    limiter.admit("acme", Limits(requests_per_minute=100)).release()


def test_looking_is_not_limited():
    app, _ = app_of(scripted_model("hi"), acme=Limits(requests_per_minute=1))
    client = app.test_client()
    for _ in range(3):
        assert client.get("/v1/models", headers={"Authorization": "Bearer acme"}).status_code == 200


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.12, "120ms"), (7.5, "7.5s"), (60, "1m0s"), (61.04, "1m1s")]
)
def test_durations_read_as_clients_expect(seconds, text):
    assert duration(seconds) == text


def test_the_official_client_understands():
    app, _ = app_of(scripted_model("hi"), acme=Limits(requests_per_minute=1))
    with (
        run_in_thread(app) as server,
        openai.OpenAI(base_url=server.url + "/v1", api_key="acme", max_retries=0, timeout=30) as client,
    ):
        ask = client.chat.completions.with_raw_response.create
        assert ask(model="parrot", **HELLO).headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as limited:
            ask(model="parrot", **HELLO)
        assert 0 < int(limited.value.response.headers["Retry-After"]) <= 60
        with pytest.raises(openai.PermissionDeniedError):
            client.get("/../admin/requests", cast_to=object)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="nobody").models.list()
