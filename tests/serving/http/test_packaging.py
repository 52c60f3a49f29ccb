"""Image, compose file, manifests, unit, dashboard and alerts: each judged by the tool or schema that knows its kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from serving.application.canary import Canary
from serving.commands import serve
from serving.composition import ServingConfig, build_catalog
from serving.infrastructure.native.library import LEVELS, sources
from serving.presentation.app import create_app

HERE = Path(__file__).parents[3] / "serving" / "packaging"
MANIFESTS = sorted(file for file in (HERE / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.33"
NOT_OURS = {"kustomization.yaml", "prometheus-adapter.yaml"}  # of kinds that no cluster knows
OWN = re.compile(r"serving:\w+")


def documents(file: Path) -> list[dict]:
    return [one for one in yaml.safe_load_all(file.read_text()) if one]


def tool(name: str) -> str:
    """A program beside this Python or on the path; the test is skipped without it."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def expressions() -> list[str]:
    """Everything that is asked of Prometheus."""
    board = json.loads((HERE / "grafana/dashboards/serving.json").read_text())
    rules = [rule for group in documents(HERE / "prometheus/alerts.yml")[0]["groups"] for rule in group["rules"]]
    adapter = documents(HERE / "kubernetes/prometheus-adapter.yaml")[0]["rules"]["custom"]
    return [
        *(target["expr"] for panel in board["panels"] for target in panel["targets"]),
        *(rule["expr"] for rule in rules),
        *(rule["seriesQuery"] for rule in adapter),
    ]


@pytest.fixture(scope="module")
def page(registry) -> str:
    """What a real server with a trial says at /metrics after a request."""
    config = ServingConfig(dtype="float32", kv_memory_mb=4, canary_percent=10)
    catalog = build_catalog(["tiny/1"], config, registry)
    client = create_app(catalog, canary=Canary(config)).test_client()
    assert client.post("/v1/completions", json={"prompt": "the", "max_tokens": 2}).status_code == 200
    yield client.get("/metrics").text
    catalog.all()[0].engine.close()


def test_the_dockerfile_pleases_hadolint():
    done = subprocess.run([tool("hadolint"), str(HERE / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_has_no_compiler_and_no_root():
    stages = (HERE / "Dockerfile").read_text().split("FROM ")[1:]
    assert len(stages) == 2 and "g++" in stages[0] and "g++" not in stages[1] and "pip install" not in stages[1]
    assert "USER 10001" in stages[1] and "HEALTHCHECK" in stages[1]


def test_what_the_image_copies_is_there_and_not_ignored():
    text = (HERE / "Dockerfile").read_text()
    kept = {line[1:] for line in (HERE / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY ([^-\n].*)$", text, re.MULTILINE) for word in line.split()[:-1]}
    assert copied == kept and all((HERE.parents[1] / name).exists() for name in copied)


def test_kernels_are_built_for_every_instruction_set(tmp_path):
    """With a compiler that only pretends: the real one takes a minute, and tests of the kernels run it."""
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\nfor last; do :; done\necho library > "$last"\n')
    compiler.chmod(0o755)
    environment = {**os.environ, "CXX": str(compiler), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "serving.infrastructure.native.prebuild"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.split()] == [sources(level).file.name for level in LEVELS]
    compiler.write_text("#!/bin/sh\necho no >&2; exit 1\n")
    shutil.rmtree(tmp_path / "cache")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 1 and "cannot compile" in done.stderr


def test_the_compose_file_fits_the_specification():
    import check_jsonschema

    schema = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
    (compose,) = documents(HERE / "compose.yaml")
    jsonschema.validate(compose, json.loads(schema.read_text()))
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith("$") or (HERE / source).is_dir(), source
        assert set(service.get("depends_on", ())) <= set(compose["services"])


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_manifests_fit_the_schemas_of_kubernetes(file):
    import kubernetes_validate

    if file.name in NOT_OURS:
        assert documents(file)
        return
    for one in documents(file):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_manifests_fit_each_other():
    (kustomization,) = documents(HERE / "kubernetes/kustomization.yaml")
    assert set(kustomization["resources"]) == {file.name for file in MANIFESTS} - NOT_OURS
    found = {one["kind"]: one for file in MANIFESTS if file.name not in NOT_OURS for one in documents(file)}
    deployment = found["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == deployment["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    assert labels == found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    pod = deployment["template"]["spec"]
    claims = [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert claims == [found["PersistentVolumeClaim"]["metadata"]["name"]]
    adapter = documents(HERE / "kubernetes/prometheus-adapter.yaml")[0]["rules"]["custom"]
    wanted = {one["pods"]["metric"]["name"] for one in found["HorizontalPodAutoscaler"]["spec"]["metrics"]}
    assert wanted == {rule["name"]["as"] for rule in adapter}


def test_there_is_time_to_drain():
    from serving.presentation.state import HttpConfig

    drain = HttpConfig().drain_seconds
    pod = documents(HERE / "kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]
    before = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > drain + before
    (compose,) = documents(HERE / "compose.yaml")
    assert int(compose["services"]["server"]["stop_grace_period"].rstrip("s")) > drain
    unit = (HERE / "systemd/lifecycle-serve.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > drain


def test_every_option_that_is_given_exists():
    known = {option for one in serve.params for option in one.opts}
    texts = [file.read_text() for file in (HERE / "Dockerfile", HERE / "kubernetes/deployment.yaml")]
    texts += [line for line in (HERE / "systemd/lifecycle-serve.service").read_text().splitlines() if "lifecycle serve" in line]
    own = {"--no-cache-dir", "--index-url", "--no-install-recommends", "--build-arg", "--interval", "--timeout", "--retries"}
    own |= {"--start-period", "--from", "--uid", "--create-home"}
    used = {option for text in texts for option in re.findall(r"--[a-z][a-z-]+", text)} - own
    assert used and used <= known, used - known


def test_every_metric_that_is_asked_for_is_there(page):
    there = set(OWN.findall("\n".join(line for line in page.splitlines() if not line.startswith("#"))))
    asked = {name for expression in expressions() for name in OWN.findall(expression)}
    assert asked and asked <= there, asked - there


def test_alerts_send_people_to_chapters_of_the_runbook():
    chapters = re.findall(r"^## (.+)$", (HERE.parents[1] / "docs/operate.md").read_text(), re.MULTILINE)
    for chapter in re.findall(r"operate\.md, ([\w ]+)\"", (HERE / "prometheus/alerts.yml").read_text()):
        assert chapter in chapters


def test_prometheus_reads_its_configuration():
    promtool = tool("promtool")
    for command in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"]):
        done = subprocess.run([promtool, *command], cwd=HERE / "prometheus", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_reads_the_unit(tmp_path):
    verify = tool("systemd-analyze")
    unit = (HERE / "systemd/lifecycle-serve.service").read_text()
    copy = tmp_path / "lifecycle-serve.service"
    copy.write_text(unit.replace("/opt/lifecycle/bin/lifecycle", sys.executable))
    done = subprocess.run([verify, "verify", str(copy)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
