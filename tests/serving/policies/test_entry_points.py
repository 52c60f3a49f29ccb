"""Policies of third parties, found as pip installs them: a distribution's metadata on the path."""

from __future__ import annotations

import pytest

from serving.domain.config import SchedulerConfig
from serving.domain.policies import POLICY_GROUP, UnknownPolicy, make_policy, policy_names

from .support import Driver, prompt_of

MODULE = '''
from serving.domain.plan import StepPlan


class LastFirst:
    """The newest request first, one at a time: nobody should want this."""

    name = "last-first"

    def __init__(self, config):
        self.config = config

    def plan(self, view, limits, now):
        if view.running:
            (only,) = view.running
            return StepPlan(work=((only.id, min(only.remaining, limits.max_num_batched_tokens)),))
        if not view.waiting:
            return StepPlan()
        newest = max(view.waiting, key=lambda sequence: sequence.arrival)
        return StepPlan(work=((newest.id, min(newest.remaining, limits.max_num_batched_tokens)),), admitted=(newest.id,))

    def observe(self, report):
        pass


def unmakeable(config):
    raise RuntimeError("no licence")
'''
ENTRY_POINTS = f"""[{POLICY_GROUP}]
last-first = third_party_policies:LastFirst
unmakeable = third_party_policies:unmakeable
missing = third_party_policies:Nothing
number = builtins:repr
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A directory as `pip install` leaves it, on the path."""
    (tmp_path / "third_party_policies.py").write_text(MODULE)
    metadata = tmp_path / "third_party_policies-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-policies\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)


def test_an_installed_policy_is_found_by_name_gets_the_config_and_serves(installed):
    assert "last-first" in policy_names()
    config = SchedulerConfig(policy="last-first")
    assert make_policy("last-first", config).config is config
    driver = Driver("last-first")
    for index in range(3):
        driver.now += 1.0
        driver.submit(prompt_of(index, 20))
    driver.finish()
    driver.check()
    assert sorted(driver.first_token, key=driver.first_token.get) == ["2", "1", "0"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("unmakeable", "third_party_policies:unmakeable, cannot be made: RuntimeError: no licence"),
        ("missing", "AttributeError.*Nothing"),
        ("number", "is no policy: it has no name and no plan and no observe"),
        ("last-frist", 'mean "last-first"'),
    ],
)
def test_one_that_cannot_be_used_is_named_with_the_reason(installed, name, message):
    with pytest.raises(UnknownPolicy, match=message):
        make_policy(name)


def test_nothing_is_installed_without_it():
    assert policy_names() == [
        "static", "continuous", "continuous-batched-prefill", "mixed-chunked", "priority", "sjf", "fair", "slo"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"tenant_weights": "gold"}, 'cannot read "gold" in tenant_weights: write TENANT=WEIGHT'),
        ({"tenant_weights": "gold=0"}, "gold=0"),
        ({"watermark": 1.5}, "watermark must be between 0 and 1, not 1.5"),
        ({"victims": "oldest"}, "choose one of policy, youngest, least-computed"),
        ({"slo_tpot": 0.0}, "slo_tpot must be more than 0 seconds"),
        ({"ageing_rate": -1.0}, "ageing_rate must be at least 0"),
        ({"ageing_rate": float("nan")}, "ageing_rate must be at least 0"),
    ],
)
def test_a_knob_that_cannot_work_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        SchedulerConfig(**knobs)
