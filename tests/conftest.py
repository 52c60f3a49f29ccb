"""Which tests are slow: those that train through TRL, convert a real model or run servers as processes of their own."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLOW = (
    "deploy",
    "registry/test_smollm2.py",
    "registry/test_crashes.py",
    "rlhf",
    "serving/http/test_command.py",
    "serving/http/test_gunicorn.py",
    "see/test_stage.py",
    "sft",
    "training/test_processes.py",
    "test_pipeline.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(HERE).as_posix() if item.path.is_relative_to(HERE) else ""
        if place.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
