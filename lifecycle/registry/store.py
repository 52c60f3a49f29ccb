"""The registry: one directory that every stage publishes to and every consumer reads from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.registry import comparison, garbage, publishing, transfer, workspaces
from lifecycle.registry import lineage as chain
from lifecycle.registry.aliases import AliasMove, append_move, read_aliases, read_moves
from lifecycle.registry.canonical import plain
from lifecycle.registry.files import disk_is_full, problems
from lifecycle.registry.manifest import FORMAT_VERSION, DataRef, Manifest, ModelVersion, ParentRef, read_version
from lifecycle.registry.provenance import commit, libraries
from lifecycle.registry.references import check_name, locate, numbers
from lifecycle.registry.remote import RemoteRegistry, is_remote
from lifecycle.registry.staging import exclusive

ENVIRONMENT = "LIFECYCLE_REGISTRY"


class ModelRegistry:
    """Versions in `<root>/<name>/<number>/`, each a Hugging Face checkpoint with a manifest; aliases that move.

    The root is the argument, else $LIFECYCLE_REGISTRY, else ./registry: a directory, perhaps of a shared file system, or the
    URL of object storage (s3://bucket/prefix; `remote`), of which `root` is then a mirror on this machine. Nothing else is
    cached: two registries on one root, in one process or in many, see the same. Every method that takes a reference raises LifecycleError when it means no
    version or more than one.

    >>> registry = ModelRegistry()
    >>> version = registry.publish("sft", model.save_pretrained, parents=[registry.load("pretrain@latest")])
    >>> registry.set_alias("production", version.ref, reason="better at arithmetic")
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        place = os.fspath(root or os.environ.get(ENVIRONMENT) or "registry")
        self.remote = RemoteRegistry(place) if is_remote(place) else None
        directory = self.remote.mirror if self.remote else Path(place.removeprefix("file://"))
        self.root = directory.expanduser().absolute()

    def __repr__(self) -> str:
        return f"ModelRegistry({self.location!r})"

    @property
    def location(self) -> str:
        """What another process, or another machine, opens the same registry by."""
        return self.remote.url if self.remote else str(self.root)

    # -- publishing ---------------------------------------------------------------------------------------------------

    def publish(
        self,
        name: str,
        write: Callable[[Path], Any],
        *,
        stage: str | None = None,
        parents: Sequence[ModelVersion] = (),
        config: Any = None,
        preset: str | None = None,
        data: DataRef | None = None,
        metrics: Mapping[str, Any] | None = None,
        seed: int | None = None,
        fingerprint: str | None = None,
        seconds: float | None = None,
        cost: Mapping[str, Any] | None = None,
        card: str = "",
    ) -> ModelVersion:
        """Call `write` with an empty directory and make what it saves there the next version of `name`.

        The version appears complete or not at all, whatever happens meanwhile and however many processes publish.
        `config` is a mapping or a dataclass; put the most telling of `metrics` first; `seconds` is wall-clock time;
        `cost` is free-form, for example tokens; `card` is Markdown for the model card. Raises LifecycleError for a
        name that cannot be one or is an alias, a parent that is gone or has changed, and a full disk.
        """
        check_name("a model name", name)
        self._look()
        draft = Manifest(
            format_version=FORMAT_VERSION,
            name=name,
            stage=stage or name,
            number=0,  # this, the files and the time are known only when `write` is done
            parents=tuple(ParentRef(parent.ref, parent.manifest_hash) for parent in parents),
            files={},
            config=plain(config or {}),
            preset=preset,
            data=None if data is None else DataRef(data.id, data.hash, plain(data.detail)),
            metrics=plain(metrics or {}),
            seed=plain(seed),
            fingerprint=fingerprint,
            libraries=libraries(),
            commit=commit(),
            created="",
            seconds=None if seconds is None else round(float(seconds), 3),
            cost=plain(cost or {}),
        )
        return publishing.publish(self.root, draft, write, card, self.remote)

    def workspace(self, name: str, fingerprint: str, parents: Sequence[ModelVersion] = ()) -> Path:
        """The directory for resumable state of one run, made if need be; the same run finds it again.

        `gc` leaves `parents`, and what they were made from, until `discard_workspace`.
        """
        check_name("a model name", name)
        return workspaces.workspace(self.root, name, fingerprint, parents)

    def discard_workspace(self, name: str, fingerprint: str) -> None:
        """Remove a workspace, at once as far as anyone can see; nothing happens when there is none."""
        workspaces.discard_workspace(self.root, name, fingerprint)

    # -- reading ------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        return list(self._numbers())

    def refs(self) -> list[str]:
        """Every version there is, as "name/number"; manifests are not read, so a corrupt one is listed too."""
        return [f"{name}/{number}" for name, found in self._numbers().items() for number in found]

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a name, oldest first; empty when there is none."""
        found = []
        for number in self._numbers().get(name, ()):
            try:
                found.append(read_version(self.root, name, number))
            except LifecycleError:
                if (self.root / name / str(number)).exists():  # otherwise `gc` was quicker
                    raise
        return found

    def latest(self, name: str) -> ModelVersion:
        return self.resolve(f"{name}@latest")

    def resolve(self, ref: str) -> ModelVersion:
        """The version that "sft/3", "sft@latest", an alias, or the name of a single version means.

        The manifest is read and validated; the other files are not looked at, see `load`.
        """
        return read_version(self.root, *self._locate(ref))

    def load(self, ref: str) -> ModelVersion:
        """`resolve`, and every file checked against its sha256; raises LifecycleError naming what is wrong."""
        version = self.resolve(ref)
        self._fetch(version)
        if found := problems(version.path, version.manifest.files):
            raise LifecycleError(f"{version.ref} is damaged: {'; '.join(found)} (in {version.path}). Restore or republish it")
        return version

    def verify(self, ref: str) -> list[str]:
        """Everything wrong with a version: its manifest, its files, its links to its parents. Empty: it is sound."""
        name, number = self._locate(ref)
        try:
            version = read_version(self.root, name, number)
            if self.remote:
                self.remote.fetch(version)
        except LifecycleError as error:
            return [str(error)]
        return problems(version.path, version.manifest.files) + list(chain.broken_links(self.root, version))

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        """The version of `name` with that fingerprint: the work is already done, and nothing is left to resume from."""
        matching = (version for version in reversed(self.versions(name)) if version.manifest.fingerprint == fingerprint)
        if (found := next(matching, None)) is not None:
            workspaces.discard_finished(self.root, fingerprint)
            self._fetch(found)
        return found

    def lineage(self, ref: str) -> list[ModelVersion]:
        """From `ref` back to its roots, every version before its parents, each once; every link is checked."""
        return chain.lineage(self.root, self.resolve(ref))

    def diff(self, a: str, b: str) -> comparison.Difference:
        if self.remote:  # tensors are compared
            return comparison.difference(self.load(a), self.load(b))
        return comparison.difference(self.resolve(a), self.resolve(b))

    # -- aliases ------------------------------------------------------------------------------------------------------

    def aliases(self) -> dict[str, str]:
        """Where each alias points: {"production": "deploy/2"}."""
        self._look()
        return read_aliases(self.root)

    def alias_moves(self) -> list[AliasMove]:
        """Who moved which alias when, oldest first."""
        self._look()
        return read_moves(self.root)

    def set_alias(self, alias: str, ref: str, reason: str = "") -> AliasMove:
        """Point an alias at a version, atomically and on record. Raises LifecycleError when `alias` is a model name."""
        check_name("an alias", alias)
        if self.remote:
            self._require_no_name(alias)
            return self.remote.move_alias(alias, self.resolve(ref).ref, reason)
        try:
            with exclusive(self.root):
                self._require_no_name(alias)
                return append_move(self.root, alias, self.resolve(ref).ref, reason)
        except OSError as error:
            why = "the disk is full" if disk_is_full(error) else error
            raise LifecycleError(f'cannot move alias "{alias}" in {self.root}: {why}; it points where it did') from error

    def _require_no_name(self, alias: str) -> None:
        if alias in self.names():
            raise LifecycleError(f'"{alias}" is the name of a model: choose another word for the alias')

    # -- housekeeping -------------------------------------------------------------------------------------------------

    def gc(self, keep: int = 3, dry_run: bool = False) -> garbage.Garbage:
        """Remove versions that are neither aliased, nor among the newest `keep` of a name, nor ancestors of such.

        Also what killed publishers left. With `dry_run` only say what would go.
        """
        self._look()
        found = garbage.collect(self.root, keep, dry_run or self.remote is not None)
        if self.remote and not dry_run:
            for version in found.versions:
                self.remote.remove(version.ref)
            garbage.sweep(self.root)
            self._look()
        return found

    def export(self, ref: str, directory: str | os.PathLike[str]) -> Path:
        """Check a version and copy it to a new or empty directory."""
        return transfer.export(self.load(ref), Path(directory))

    def import_directory(
        self,
        path: str | os.PathLike[str],
        name: str,
        *,
        source: str | None = None,
        detail: Mapping[str, Any] | None = None,
        card: str = "",
    ) -> ModelVersion:
        """Publish a Hugging Face checkpoint directory as a root version; one that is already here is returned.

        `source` says where it came from (default: the path) and ends up in the data id; `detail` is recorded with it.
        Raises LifecycleError when it is no checkpoint, is incomplete, or keeps its weights in pickles.
        """
        directory = Path(path).expanduser().absolute()
        files = transfer.checkpoint_files(directory)
        content = transfer.content_hash(transfer.hash_files(files))
        if existing := self.find(name, content):
            return existing

        def copy(target: Path) -> None:
            for file, origin in files.items():
                (target / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(origin, target / file)

        data = DataRef(f"imported:{source or directory}", content, detail or {})
        return self.publish(name, copy, stage="import", data=data, fingerprint=content, card=card)

    def _fetch(self, version: ModelVersion) -> None:
        """Have a version's files here, where they are elsewhere; of an adapter its base's, too, for it is opened on it."""
        if self.remote:
            self.remote.fetch(version)
            if "adapter_config.json" in version.manifest.files and version.manifest.parents:
                self.remote.fetch(self.resolve(version.manifest.parents[0].ref))

    def _locate(self, ref: str) -> tuple[str, int]:
        return locate(ref, self._numbers(), read_aliases(self.root), self.location)

    def _numbers(self) -> dict[str, list[int]]:
        self._look()
        return numbers(self.root)

    def _look(self) -> None:
        """Let the mirror show what is there now."""
        if self.remote:
            self.remote.pull()
