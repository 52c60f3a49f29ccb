"""A model on the Hugging Face hub: `hf:ORG/NAME`, or `hf:ORG/NAME@REVISION` to pin it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.manifest import ModelVersion
from lifecycle.registry.store import ModelRegistry
from lifecycle.registry.transfer import KEPT

PREFIX = "hf:"


def accepts(source: str) -> bool:
    return source.startswith(PREFIX)


def bring(registry: ModelRegistry, source: str, name: str | None, say: Callable[[str], None]) -> ModelVersion:
    repository, _, revision = source.removeprefix(PREFIX).partition("@")
    if repository.count("/") != 1:
        raise LifecycleError(f'cannot read "{source}": write hf:ORG/NAME, for example hf:HuggingFaceTB/SmolLM2-135M')
    say(f"downloading {repository} from the hub")
    snapshot = _download(repository, revision or None)
    detail = {"repository": repository, "revision": snapshot.name}
    return registry.import_directory(
        snapshot,
        name or repository.rpartition("/")[2].lower(),
        source=f"{PREFIX}{repository}@{snapshot.name}",
        detail=detail,
    )


def _download(repository: str, revision: str | None) -> Path:
    """The snapshot directory, named after the commit; pickles are not even downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    patterns = [*(f"*{suffix}" for suffix in sorted(KEPT)), "*.md", "LICENSE*", "NOTICE*"]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise LifecycleError(
            f'cannot download "{repository}" from the hub: {reason}. Check the name and the connection, unset HF_HUB_OFFLINE, '
            "or import a directory that you copied here"
        ) from error
