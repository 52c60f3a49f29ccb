"""Which code and which libraries made a version."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("llm-lifecycle", "torch", "transformers", "tokenizers", "safetensors", "numpy", "peft", "trl", "datasets")


def libraries() -> dict[str, str]:
    """Versions of Python and of the packages that decide what training computes; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of this package, with "+changes" when tracked files differ from it; None outside a checkout."""
    here = Path(__file__)
    # ls-files first: an installed package may lie inside somebody else's repository
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    head = _git(here.parent, "rev-parse", "HEAD")
    changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+changes" if head and changed else head


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=directory, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
