"""Where models come from that were not trained here. A new source is one file like the others, and its place in `SOURCES`.

A source is a module with `accepts(source) -> bool`, whether that is how it is written, and
`bring(registry, source, name, say) -> ModelVersion`, which publishes it, or returns what is already there.
"""

from __future__ import annotations

from collections.abc import Callable

from lifecycle.registry.manifest import ModelVersion
from lifecycle.registry.references import check_name
from lifecycle.registry.sources import directory, hub, smollm2
from lifecycle.registry.store import ModelRegistry

SOURCES = (smollm2, hub, directory)  # asked in this order; the last one takes anything


def import_source(
    registry: ModelRegistry, source: str, name: str | None = None, say: Callable[[str], None] = print
) -> ModelVersion:
    """Bring `source` into the registry as `name` (default: what the source is called); `say` gets progress lines.

    Raises LifecycleError when the source cannot be reached, is no safe checkpoint, or is not what it should be.
    """
    if name is not None:
        check_name("a model name", name)
    chosen = next(candidate for candidate in SOURCES if candidate.accepts(source))
    known = set(registry.refs())
    version = chosen.bring(registry, source, name, say)
    say(f"{'already imported as' if version.ref in known else 'imported as'} {version.ref}: {version.path}")
    return version
