"""Wires adapters to ports; the only file that knows both.

Call it in the process that serves, after any fork: it starts a thread, and torch's own threads do not survive one either.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry, ModelVersion
from serving.application.engine import EngineLoop, Observer
from serving.application.ports import ServedModel
from serving.application.recorder import FileRecorder
from serving.infrastructure.catalog import Catalog
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.loading import default_sampling, load_backend
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.tokenizer import HFTokenizer

__all__ = ["ServingConfig", "build_catalog", "build_engine", "load_served_model"]


def build_engine(
    version_dir: str | Path,
    config: ServingConfig,
    *,
    name: str | None = None,
    version: str | None = None,
    aliases: Sequence[str] = (),
    lineage: Sequence[str] = (),
    created: int | None = None,
    observer: Observer | None = None,
    record: Path | None = None,
) -> ServedModel:
    """Load a checkpoint directory and start its engine; `engine.close()` stops it.

    Any Hugging Face directory will do; what it is called defaults to the directory's name. With `record` everything the
    engine does is written to that file instead of told to an observer. Raises LifecycleError.
    """
    directory = Path(version_dir)
    tokenizer = HFTokenizer(directory)
    backend = load_backend(directory, config)
    if record is not None:
        observer = open_recorder(record)
        observer.begin(config, num_blocks=backend.num_blocks, model=version or name or directory.name)
    engine = EngineLoop(
        backend, VectorSampler(), config, context_length=tokenizer.context_length, observer=observer
    ).start()
    return ServedModel(
        name=name or directory.name,
        version=version or name or directory.name,
        aliases=tuple(aliases),
        created=int(time.time()) if created is None else created,
        engine=engine,
        tokenizer=tokenizer,
        default_sampling=default_sampling(directory),
        lineage=tuple(lineage),
    )


def open_recorder(path: Path) -> FileRecorder:
    """Raises LifecycleError when the file cannot be written."""
    try:
        return FileRecorder(path)
    except OSError as error:
        raise LifecycleError(f"cannot record to {path}: {error.strerror}. Choose a file that can be written") from None


def build_catalog(
    refs: Sequence[str], config: ServingConfig, registry: ModelRegistry | None = None, *, record: Path | None = None
) -> Catalog:
    """Load registry versions ("production", "sft/3", "sft@latest"), each checked against its hashes, each with an engine.

    A version goes by its bare name ("sft") unless two versions of that name are served, and by every alias that points to it.
    `record` writes down what the engine does, if there is only one. Raises LifecycleError for an unknown or damaged
    version; engines started before are closed again.
    """
    registry = registry or ModelRegistry()
    versions = {version.ref: version for version in map(registry.load, refs)}
    if not versions:
        raise LifecycleError("nothing to serve: name at least one version, for example production or sft@latest")
    if record is not None and len(versions) > 1:
        raise LifecycleError(f"a recording is of one engine, not of {len(versions)}: serve one version with --record")
    named = Counter(version.name for version in versions.values())
    served: list[ServedModel] = []
    try:
        for version in versions.values():
            name = version.name if named[version.name] == 1 else version.ref
            served.append(load_served_model(version, config, registry, name=name, record=record))
        return Catalog(served)
    except BaseException:
        for model in served:
            model.engine.close()
        raise


def load_served_model(
    version: ModelVersion,
    config: ServingConfig,
    registry: ModelRegistry,
    *,
    name: str | None = None,
    record: Path | None = None,
) -> ServedModel:
    """One registry version with its engine started, its aliases and its lineage."""
    return build_engine(
        version.path,
        config,
        name=name or version.name,
        version=version.ref,
        aliases=[alias for alias, ref in registry.aliases().items() if ref == version.ref],
        lineage=[ancestor.ref for ancestor in registry.lineage(version.ref)],
        created=int(datetime.fromisoformat(version.manifest.created).timestamp()),
        record=record,
    )
