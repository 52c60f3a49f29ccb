"""Where a version comes from: the chain of manifests back to the hash of the data, every link checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.manifest import ModelVersion, ParentRef, read_version
from lifecycle.registry.references import numbers


def lineage(root: Path, version: ModelVersion) -> list[ModelVersion]:
    """`version` and all its ancestors, each once, every version before its parents.

    Raises LifecycleError naming the first parent that is gone or whose manifest is no longer the recorded one.
    """
    done: dict[str, None] = {}
    found: list[ModelVersion] = []

    def visit(node: ModelVersion) -> None:  # ends: a cycle of hashes that contain each other cannot be made
        if node.ref not in done:
            done[node.ref] = None
            for parent in node.manifest.parents:
                visit(follow(root, node.ref, parent))
            found.append(node)

    visit(version)
    return found[::-1]


def follow(root: Path, child: str, parent: ParentRef) -> ModelVersion:
    """The version that `parent` records; raises LifecycleError when it is missing or not the same any more."""
    name, _, number = parent.ref.partition("/")
    if not number.isdigit() or int(number) not in numbers(root).get(name, ()):
        raise LifecycleError(f"broken lineage: {child} was made from {parent.ref}, which {root} no longer has")
    found = read_version(root, name, int(number))
    if found.manifest_hash != parent.manifest:
        raise LifecycleError(
            f"broken lineage: {parent.ref} is not what {child} was made from: "
            f"its manifest has sha256 {found.manifest_hash[:12]}..., {child} recorded {parent.manifest[:12]}..."
        )
    return found


def broken_links(root: Path, version: ModelVersion) -> Iterator[str]:
    """One line for each parent of `version` that does not hold."""
    for parent in version.manifest.parents:
        try:
            follow(root, version.ref, parent)
        except LifecycleError as error:
            yield str(error)
