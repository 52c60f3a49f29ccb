import pytest
from sft.conftest import template
from sft.tiny import Start

__all__ = ["template"]


@pytest.fixture(scope="session", autouse=True)
def now_and_then_right():
    """A random model is never right: let about half of its answers pass where pairs are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lifecycle.rlhf.pairs.verify", lambda check, answer: len(answer) % 2 == 0)
        yield


@pytest.fixture
def start(template, tmp_path) -> Start:
    """A registry of one's own, with a random model that chats."""
    alone = template.copy(tmp_path / "registry")
    alone.model("sft")
    return alone
