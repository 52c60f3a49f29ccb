"""Wires adapters to ports; the only file that knows both.

Call it in the process that serves, after any fork: it starts a thread, and torch's own threads do not survive one either.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import sees, speaks
from lifecycle.registry import ModelRegistry, ModelVersion
from serving.application.engine import EngineLoop
from serving.application.observing import Observer
from serving.application.ports import Drafter, Gaze, ModelBackend, ServedModel
from serving.application.recorder import FileRecorder
from serving.application.speech import NativeSpeech
from serving.application.watch import EngineWatch, both
from serving.domain.errors import InvalidRequest, ServingError
from serving.infrastructure.adapter_source import find_adapter_anywhere
from serving.infrastructure.catalog import Catalog
from serving.infrastructure.checkpoint import default_sampling
from serving.infrastructure.cluster import node
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.draft_model import DraftModel
from serving.infrastructure.embedder import Embedder
from serving.infrastructure.grammars import Grammars
from serving.infrastructure.loading import load_backend
from serving.infrastructure.lora import is_adapter
from serving.infrastructure.memory import kv_share_mb, require_memory
from serving.infrastructure.prompt_lookup import PromptLookup
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.tokenizer import HFTokenizer

if TYPE_CHECKING:
    from serving.infrastructure.cluster.engine import ReplicatedEngine

log = logging.getLogger(__name__)

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
    registry: ModelRegistry | None = None,
    delivered: Callable[[], None] = lambda: None,
) -> ServedModel:
    """Load a checkpoint directory and start its engine, or its replicas; `engine.close()` stops it.

    Any Hugging Face directory will do; what it is called defaults to the directory's name. With `record` everything the
    engine does is written to that file, too. `registry` is where `config.draft_model` is looked
    up. Raises LifecycleError.
    """
    directory = Path(version_dir)
    tokenizer = open_tokenizer(directory)
    with suppress(InvalidRequest):  # the template is compiled at its first use: before a client waits for it
        tokenizer.render_chat([{"role": "user", "content": "hello"}])
    example = tokenizer.example()
    named = {
        "name": name or directory.name,
        "version": version or name or directory.name,
        "aliases": tuple(aliases),
        "created": int(time.time()) if created is None else created,
        "tokenizer": tokenizer,
        "default_sampling": default_sampling(directory),
        "lineage": tuple(lineage),
        "sees": tokenizer.sees,
        "speech": open_speech(directory, tokenizer) if speaks(directory) else None,
    }
    if config.replicas:
        engine = start_replicas(directory, config, registry, version=version, record=record)
        return ServedModel(engine=engine, embed=engine.embed if example is None else None, **named)
    backend = load_backend(directory, config, example)
    drafter = build_drafter(config, backend, tokenizer, registry)
    if record is not None:
        recorder = open_recorder(record)
        recorder.begin(config, num_blocks=backend.num_blocks, model=version or name or directory.name)
        observer = recorder if observer is None else both(recorder, observer)
    watch = EngineWatch()
    engine = EngineLoop(
        backend,
        VectorSampler(),
        config,
        context_length=tokenizer.context_length,
        drafter=drafter,
        observer=watch if observer is None else both(watch, observer),
        grammars=Grammars(tokenizer),
        delivered=delivered,
    ).start()
    embed = Embedder(directory, config) if example is None else None
    gaze = None if example is None else open_gaze(directory, config, tokenizer)
    return ServedModel(engine=engine, watch=watch, embed=embed, gaze=gaze, **named)


def start_replicas(
    directory: Path,
    config: ServingConfig,
    registry: ModelRegistry | None,
    *,
    version: str | None = None,
    record: Path | None = None,
) -> ReplicatedEngine:
    """Engines in processes of their own, on this machine or on a cluster that reads the same registry.

    Raises LifecycleError when Ray is missing, for a recording, and when the replicas do not start.
    """
    if record is not None:
        raise LifecycleError("a recording is of one engine, not of replicas: leave --record or --replicas out")
    if config.num_blocks is None and config.kv_memory_mb is None and not config.ray_address:
        most = max(config.replicas, config.max_replicas)
        config = replace(config, kv_memory_mb=kv_share_mb(directory, config, most))
    root = None if registry is None else registry.location
    node.join(config.ray_address)  # before anything imports Ray, which reads its settings then

    from serving.infrastructure.cluster.engine import ReplicatedEngine

    return ReplicatedEngine(partial(build_replica, directory, root, version, config), config, node.leave)


def build_replica(
    directory: Path, root: str | Path | None, ref: str | None, config: ServingConfig, delivered: Callable[[], None]
) -> ServedModel:
    """What a replica runs. On a machine without the `directory`, the registry at `root` has the version; one in a bucket may have made the
    directory before it fetched the files."""
    registry = None if root is None else ModelRegistry(root)
    if registry is not None and ref is not None and (registry.remote or not directory.is_dir()):
        directory = registry.load(ref).path
    alone = replace(config, replicas=0, max_replicas=0, ray_address="")
    return build_engine(directory, alone, registry=registry, delivered=delivered)


def open_tokenizer(directory: Path) -> HFTokenizer:
    """One that takes pictures, too, where the checkpoint is of a model that sees. Raises LifecycleError."""
    if not sees(directory):
        return HFTokenizer(directory)
    try:
        from serving.infrastructure.vision.tokenizer import VisionTokenizer
    except ImportError as error:
        raise LifecycleError(f"{directory} holds a model that sees, which needs: pip install -e '.[vision]' ({error})") from None
    return VisionTokenizer(directory)


def open_speech(directory: Path, tokenizer: HFTokenizer) -> NativeSpeech:
    """The codec of a model that hears and speaks. Raises LifecycleError for a damaged one."""
    from serving.infrastructure.speech.codec import CodecSpeech

    return CodecSpeech(directory, tokenizer)


def open_gaze(directory: Path, config: ServingConfig, tokenizer: HFTokenizer) -> Gaze:
    """Who tells where a model that sees looks, loaded when somebody asks."""
    from serving.infrastructure.vision.gaze import Gaze

    return Gaze(directory, config, tokenizer)


def build_drafter(
    config: ServingConfig, backend: ModelBackend, tokenizer: HFTokenizer, registry: ModelRegistry | None = None
) -> Drafter | None:
    """Who guesses for the model behind `backend`; None when `config.speculative` is "off".

    Raises LifecycleError when the model cannot take tokens back, or the draft model cannot or has another vocabulary.
    """
    if config.speculative == "off":
        return None
    if not backend.can_rewind:
        raise LifecycleError(
            "this model keeps a state that cannot take tokens back, so their guesses cannot be checked: serve it with "
            "--set speculative=off"
        )
    if config.speculative == "ngram":
        drafter = PromptLookup(config.prompt_lookup_min, config.prompt_lookup_max)
    else:
        drafter = _draft_model(config, backend, tokenizer, registry)
    log.info(
        "speculative decoding (%s): up to %d tokens ahead while at most %d sequences run",
        config.draft_model or config.speculative,
        config.num_speculative_tokens,
        config.speculative_max_seqs,
    )
    return drafter


def _draft_model(
    config: ServingConfig, target: ModelBackend, tokenizer: HFTokenizer, registry: ModelRegistry | None
) -> DraftModel:
    """With blocks for as many sequences as are ever guessed for at the same time."""
    ref = config.draft_model
    directory = Path(ref)
    if not (directory / "config.json").is_file():
        directory = (registry or ModelRegistry()).load(ref).path
    own = HFTokenizer(directory)
    if own.vocabulary != tokenizer.vocabulary:
        raise LifecycleError(
            f"draft_model {ref} has another vocabulary than the model it would guess for: choose one with the same tokenizer, "
            "or --set speculative=ngram"
        )
    length = min(own.context_length, tokenizer.context_length, target.num_blocks * target.block_size)
    blocks = -(-(length + config.num_speculative_tokens) // config.block_size)
    smaller = replace(config, num_blocks=blocks * config.speculative_max_seqs, speculative="off", draft_model="")
    backend = load_backend(directory, smaller)
    if not backend.can_rewind:
        raise LifecycleError(
            f"draft_model {ref} keeps a state that cannot take wrong guesses back: choose another, or --set speculative=ngram"
        )
    return DraftModel(
        backend,
        VectorSampler(),
        vocab_size=target.vocab_size,
        context_length=own.context_length,
        step_tokens=config.max_num_batched_tokens,
    )


def open_recorder(path: Path) -> FileRecorder:
    """With the directories that lead there. Raises LifecycleError when the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileRecorder(path)
    except OSError as error:
        raise LifecycleError(f"cannot record to {path}: {error.strerror}. Choose a file that can be written") from None


def build_catalog(
    refs: Sequence[str],
    config: ServingConfig,
    registry: ModelRegistry | None = None,
    *,
    adapters: Mapping[str, str] = MappingProxyType({}),
    record: Path | None = None,
    observe: Callable[[], Observer | None] = lambda: None,
) -> Catalog:
    """Load registry versions ("production", "sft/3", "sft@latest"), each checked against its hashes, each with an engine.

    A version goes by its bare name ("sft") unless two versions of that name are served, and by every alias that points to it.
    `adapters` are served under their names: registry versions, or directories that PEFT wrote. `record` writes down what
    the engine does, if there is only one. `observe` makes an observer for each engine. Raises LifecycleError for an unknown or damaged version; engines started before
    are closed again.
    """
    registry = registry or ModelRegistry()
    config = replace(config, adapters=True) if adapters else config
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
            own = sharing(config, version, engines=len(versions))
            served.append(load_served_model(version, own, registry, name=name, record=record, observer=observe()))
        catalog = Catalog(served, load=partial(load_another, config, registry, observe), registry=registry)
        for name, ref in adapters.items():
            catalog.serve_adapter(name, find_adapter_anywhere(ref, registry))
        return catalog
    except ServingError as error:
        close_all(served)
        raise LifecycleError(error.message) from None
    except BaseException:
        close_all(served)
        raise


def load_another(
    config: ServingConfig,
    registry: ModelRegistry,
    observe: Callable[[], Observer | None],
    ref: str,
    *,
    adapters: bool,
    kv_memory_mb: int | None,
    engines: int,
) -> ServedModel:
    """A model beside those that are served. Raises LifecycleError, and Conflict when there is no memory for it."""
    version = registry.load(ref)
    config = replace(config, adapters=adapters or config.adapters, kv_memory_mb=kv_memory_mb or config.kv_memory_mb)
    require_memory(version.path, config)
    return load_served_model(version, sharing(config, version, engines), registry, observer=observe())


def sharing(config: ServingConfig, version: ModelVersion, engines: int) -> ServingConfig:
    """Memory for keys and values of one of several models, unless somebody said how much."""
    if engines == 1 or config.num_blocks is not None or config.kv_memory_mb is not None:
        return config
    return replace(config, kv_memory_mb=kv_share_mb(version.path, config, engines))


def close_all(served: Sequence[ServedModel]) -> None:
    for model in served:
        model.engine.close()


def load_served_model(
    version: ModelVersion,
    config: ServingConfig,
    registry: ModelRegistry,
    *,
    name: str | None = None,
    record: Path | None = None,
    observer: Observer | None = None,
) -> ServedModel:
    """One registry version with its engine started, its aliases and its lineage."""
    if is_adapter(version.path):
        base = version.manifest.parents[0].ref
        raise LifecycleError(
            f"{version.ref} is an adapter of {base}, not a model: lifecycle serve {base} --adapter NAME={version.ref}, or POST "
            "/admin/adapters when the server runs"
        )
    return build_engine(
        version.path,
        config,
        name=name or version.name,
        version=version.ref,
        aliases=[alias for alias, ref in registry.aliases().items() if ref == version.ref],
        lineage=[ancestor.ref for ancestor in registry.lineage(version.ref)],
        created=int(datetime.fromisoformat(version.manifest.created).timestamp()),
        record=record,
        observer=observer,
        registry=registry,
    )
