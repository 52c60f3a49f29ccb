"""What Prometheus reads is well-formed, means what vLLM's means, and does not grow without bound."""


import dataclasses

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scripted_engine import Catalog, scripted_model
from test_limits import Tenants

from serving.application.canary import Canary
from serving.domain.canary import CanaryRules
from serving.domain.errors import GrammarTooComplex
from serving.domain.quota import Limits
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig
from serving.presentation.tenant_metrics import MAX_TENANTS, OTHERS, TenantMetrics

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def scrape(client, **headers):
    """Samples by name and labels; the parser refuses what Prometheus would."""
    text = client.get("/metrics", headers=headers).text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "each metric once"
    for family in families:
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family.name
        assert family.samples or "tenant" in family.name or "part" in family.name, family.name
    return {
        (sample.name.removeprefix("serving:"), *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples[(name, *sorted({"model_name": "parrot", **labels}.items()))]


@pytest.fixture
def model():
    return scripted_model("abcde")


@pytest.fixture
def client(model):
    return create_app(Catalog(model)).test_client()


def test_a_request_is_one_choice_of_one_prompt(client):
    client.post("/v1/chat/completions", json={**HELLO, "n": 2})
    client.post("/v1/completions", json={"prompt": ["a", "bb", "ccc"], "max_tokens": 2})
    samples = scrape(client)
    assert value(samples, "request_success_total", finished_reason="stop") == 2
    assert value(samples, "request_success_total", finished_reason="length") == 3
    for name in ("e2e_request_latency_seconds", "time_to_first_token_seconds", "request_generation_tokens"):
        assert value(samples, f"{name}_count") == 5, name
    assert value(samples, "request_generation_tokens_sum") == 2 * 5 + 3 * 2
    assert value(samples, "inter_token_latency_seconds_count") == 2 * 4 + 3 * 1, "between tokens of the same request"
    assert value(samples, "request_time_per_output_token_seconds_count") == 5
    prompt = len("user: hello\n")
    assert value(samples, "request_prompt_tokens_sum") == 2 * prompt + 1 + 2 + 3
    assert value(samples, "request_params_n_count") == 4 and value(samples, "request_params_n_sum") == 2 + 3


def test_buckets_are_cumulative_and_complete(client):
    client.post("/v1/chat/completions", json=HELLO)
    samples = scrape(client)
    names = {key[0].removesuffix("_bucket") for key in samples if key[0].endswith("_bucket")}
    for name in names:
        buckets = [
            (float(dict(key[1:])["le"]), count) for key, count in samples.items() if key[0] == f"{name}_bucket"
        ]
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts) and counts[-1] == value(samples, f"{name}_count"), name
        assert sorted(buckets)[-1][0] == float("inf")


def test_a_client_that_leaves_at_once_is_counted(client):
    client.post("/v1/chat/completions", json={**HELLO, "stream": True}).close()
    assert value(scrape(client), "request_success_total", finished_reason="abort") == 1


def test_reasons_are_vllms():
    model = scripted_model('<tool_call>{"name": "add", "arguments": {}}</tool_call>')
    client = create_app(Catalog(model)).test_client()
    answer = client.post("/v1/chat/completions", json={**HELLO, "tools": TOOLS})
    assert answer.json["choices"][0]["finish_reason"] == "tool_calls"
    model.engine.hang = True
    stream = client.post("/v1/chat/completions", json={**HELLO, "stream": True})
    pieces = iter(stream.response)
    next(pieces), next(pieces)
    stream.close()
    model.engine.hang = False
    model.engine.error = "out of luck"
    client.post("/v1/chat/completions", json=HELLO)
    samples = scrape(client)
    assert {
        dict(key[1:])["finished_reason"]: count for key, count in samples.items() if key[0] == "request_success_total"
    } == {"stop": 1, "length": 0, "abort": 1, "error": 1}


def test_a_grammar_that_is_too_complex_is_no_failure_of_the_version(model):
    canary = Canary(CanaryRules())
    model.engine.error = GrammarTooComplex.code
    answer = create_app(Catalog(model), canary=canary).test_client().post("/v1/chat/completions", json=HELLO)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, GrammarTooComplex.code)
    sample = canary.windows.sample("parrot/1")
    assert (sample.requests, sample.failures) == (1, 0)


def test_labels_are_escaped(model):
    strange = dataclasses.replace(model, name='a"b\\c\nd')
    client = create_app(Catalog(strange)).test_client()
    client.post("/v1/chat/completions", json=HELLO)
    samples = scrape(client)
    assert ("num_requests_running", ("model_name", 'a"b\\c\nd')) in samples
    assert samples["model_info", ("model_name", 'a"b\\c\nd'), ("version", "parrot/1")] == 1


def test_the_engine_reports_hits_out_of_queries(catalog):
    client = create_app(catalog).test_client()
    prompt = "a prompt that comes twice and is long enough to fill a block of the cache. " * 4
    body = {"prompt": prompt, "max_tokens": 1}
    label = ("model_name", "tiny")
    before = scrape(client)
    usages = [client.post("/v1/completions", json=body).json["usage"] for _ in range(2)]
    after = scrape(client)
    queries, hits = (
        after[name, label] - before[name, label] for name in ("prefix_cache_queries_total", "prefix_cache_hits_total")
    )
    assert queries == sum(usage["prompt_tokens"] for usage in usages)
    assert hits == usages[1]["prompt_tokens_details"]["cached_tokens"] > 0
    parts = {dict(key[1:])["part"] for key in after if key[0] == "engine_part_seconds_total"}
    assert {"scheduling", "sampling", "bookkeeping"} <= parts


def test_tenants_are_counted_and_shown_to_an_admin_only(model):
    keys = [Tenants(acme=Limits(concurrent=1), other=Limits())]
    client = create_app(Catalog(model), HttpConfig(api_key="boss"), keys=keys).test_client()
    usage = {}
    for tenant in ("acme", "acme", "other"):
        answer = client.post("/v1/chat/completions", json=HELLO, headers={"Authorization": f"Bearer {tenant}"})
        usage[tenant] = usage.get(tenant, 0) + answer.json["usage"]["total_tokens"]
    client.post("/v1/chat/completions", json={}, headers={"Authorization": "Bearer acme"})
    client.post("/v1/chat/completions", json=HELLO, headers={"Authorization": "Bearer boss"})
    client.post("/v1/chat/completions", json=HELLO, headers={"Authorization": "Bearer nobody"})
    stream = client.post(
        "/v1/completions", json={"prompt": "x", "stream": True}, headers={"Authorization": "Bearer other"}
    )
    assert stream.data
    stream.close()
    usage["other"] += 1 + 5
    for who in ("nobody", "acme"):
        assert not [key for key in scrape(client, Authorization=f"Bearer {who}") if "tenant" in key[0]]
    samples = scrape(client, Authorization="Bearer boss")
    counted = {
        (dict(key[1:])["tenant"], dict(key[1:])["code"]): count
        for key, count in samples.items()
        if key[0] == "tenant_requests_total"
    }
    assert counted == {("acme", "200"): 2, ("acme", "400"): 1, ("other", "200"): 2}
    tokens = {dict(key[1:])["tenant"]: count for key, count in samples.items() if key[0] == "tenant_tokens_total"}
    assert tokens == usage


def test_however_many_tenants_the_series_are_bounded():
    metrics = TenantMetrics()
    for number in range(3 * MAX_TENANTS):
        metrics.answered(f"t{number}", 200)
        metrics.used(f"t{number}", 2)
    page = "\n".join(metrics.lines()) + "\n"
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    assert len(samples) == 2 * (MAX_TENANTS + 1)
    others = {sample.name: sample.value for sample in samples if sample.labels["tenant"] == OTHERS}
    assert others == {"serving:tenant_requests_total": 2 * MAX_TENANTS, "serving:tenant_tokens_total": 4 * MAX_TENANTS}
