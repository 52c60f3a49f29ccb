import pytest
from sft.tiny import Start


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Start:
    return Start.make(tmp_path_factory.mktemp("template") / "registry")


@pytest.fixture
def start(template, tmp_path) -> Start:
    """A registry of one's own."""
    return template.copy(tmp_path / "registry")
