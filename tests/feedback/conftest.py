import pytest
from sft.conftest import template
from sft.tiny import Start

__all__ = ["template"]


@pytest.fixture
def start(template, tmp_path) -> Start:
    """A registry of one's own, with a random model that chats."""
    alone = template.copy(tmp_path / "registry")
    alone.model("sft")
    return alone
