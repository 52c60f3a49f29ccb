"""The gate of production: what was never compared, cannot be asked or is damaged does not pass."""

import shutil

import pytest
from safetensors.torch import save_file
from sft.tiny import weights

from deploy.test_run import CONFIG, deploy, modest
from lifecycle.deploy import promote
from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelVersion


def test_the_gate_refuses_what_was_never_compared_cannot_be_asked_or_is_damaged(start):
    better = modest(start)
    ref, _ = deploy(start, better)

    def move(version: ModelVersion) -> list[str]:
        said: list[str] = []
        assert not promote(version, CONFIG, start.registry, said.append) and start.registry.aliases() == {"production": ref}
        return said

    good = start.registry.load(ref)
    copy = lambda place: shutil.copytree(good.path, place, dirs_exist_ok=True)  # noqa: E731
    assert "was never compared" in move(start.registry.publish("deploy", copy, parents=[better]))[0]

    def broken(place):
        copy(place)
        spoilt = {name: weight * float("nan") for name, weight in weights(good).items()}
        save_file(spoilt, place / "model.safetensors", metadata={"format": "pt"})

    metrics = {"mean_difference": 0.0}
    assert "not finite" in move(start.registry.publish("deploy", broken, parents=[better], metrics=metrics))[0]
    apart = start.registry.publish("deploy", copy, parents=[better], metrics={"mean_difference": 1.0}, config={"tolerance": 0.05})
    assert "1.000 nats per token" in move(apart)[0]
    tampered = start.registry.publish("deploy", copy, parents=[better], metrics=metrics)
    (tampered.path / "config.json").write_text("{}")
    with pytest.raises(LifecycleError, match="config.json is corrupt"):
        move(tampered)
