"""Arrows point one way: notebooks -> serving -> lifecycle, and inside serving from the adapters to the domain."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imports(package: str) -> dict[str, set[str]]:
    """Every module of a package with all that it imports, at any depth of its code."""
    found = {}
    for file in (ROOT / package).rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file}: relative imports hide where an arrow points"
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[str(file.relative_to(ROOT))] = names
    assert found, f"no modules in {package}"
    return found


def strays(package: str, allowed: tuple[str, ...]) -> list[str]:
    def fine(name: str) -> bool:
        return name.split(".")[0] in sys.stdlib_module_names or any(
            name == prefix or name.startswith(prefix + ".") for prefix in allowed
        )

    return [
        f"{module} imports {name}" for module, names in imports(package).items() for name in names if not fine(name)
    ]


def test_the_domain_knows_only_itself_and_the_standard_library():
    assert strays("serving/domain", ("serving.domain",)) == []


def test_use_cases_know_only_the_domain_the_standard_library_and_what_a_judgement_is():
    assert strays("serving/application", ("serving.domain", "serving.application", "lifecycle.feedback.judgements")) == []


def test_adapters_do_not_know_the_presentation():
    for module, names in imports("serving/infrastructure").items():
        assert not {name for name in names if name.startswith(("serving.presentation", "flask"))}, module


def test_the_presentation_does_not_know_the_adapters():
    for module, names in imports("serving/presentation").items():
        assert not {name for name in names if name.startswith("serving.infrastructure")}, module


def test_what_comes_before_serving_does_not_know_it():
    for module, names in imports("lifecycle").items():
        assert not {name for name in names if name.split(".")[0] in ("serving", "flask")}, module


@pytest.mark.parametrize("module", ["lifecycle.cli", "serving.domain.scheduler", "serving.application.engine"])
def test_importing_these_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers', 'flask'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
