"""A registry in object storage: s3://bucket/prefix, gs://..., memory://...; read from hf://datasets/... as well.

Objects have no rename, so what makes a version atomic on a disk is done otherwise here:

    <url>/<name>/<number>/.claim        created by whoever will publish that number; only one creation succeeds
    <url>/<name>/<number>/<file>        uploaded next, by the claimant alone
    <url>/<name>/<number>/manifest.json created last; a version without it does not exist
    <url>/.aliases/<number>.json        one move of an alias; whoever creates the next number has moved it

Everything is read through a mirror, a directory of this machine that looks like a registry on a disk: manifests and moves
are fetched whenever somebody looks, files when somebody loads, each once, by its sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.aliases import ALIASES, AliasMove, new_move, parse_move, read_moves
from lifecycle.registry.files import hash_file, sync
from lifecycle.registry.manifest import MANIFEST, FileRecord, ModelVersion
from lifecycle.registry.staging import exclusive

CLAIM = ".claim"
MOVES = ".aliases"
BLOBS = ".blobs"
SEEN = ".seen.json"
EXCLUSIVE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"})
"""Storage that creates an object for one of two writers and refuses it to the other."""
INSTALL = {"s3": "pip install s3fs", "s3a": "pip install s3fs", "gs": "pip install gcsfs", "az": "pip install adlfs"}


def is_remote(root: str) -> bool:
    return "://" in root and not root.startswith("file://")


class RemoteRegistry:
    """The storage behind a mirror. Raises LifecycleError for a URL that nothing installed can open."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self._protocol = url.partition("://")[0]
        try:
            self._files, self._root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            how = INSTALL.get(self._protocol, "choose s3://, gs://, hf://, memory:// or a directory")
            raise LifecycleError(f"cannot open the registry {url}: {error}. {how}") from None
        self.mirror = mirror_of(self.url)

    def pull(self) -> None:
        """Make the mirror show what is there now: every manifest, every move of an alias."""
        with exclusive(self.mirror), self._errors("read"):
            self._pull_manifests()
            self._pull_moves()

    def fetch(self, version: ModelVersion) -> None:
        """Bring the files of a version into the mirror, those again that have been spoilt there.

        Raises LifecycleError naming one that is not what was published.
        """
        for path, record in version.manifest.files.items():
            target = version.path / path
            if _holds(target, record):
                continue
            blob = self.mirror / BLOBS / record.sha256
            if not _holds(blob, record):
                self._download(f"{version.ref}/{path}", blob, version.ref)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(blob, target)

    def claim(self, name: str, number: int) -> int:
        """A number of `name`, `number` or above, that nobody else will ever publish."""
        self._require_exclusive()
        with self._errors("write to"):
            while not self._create(f"{name}/{number}/{CLAIM}", b""):
                number += 1
        return number

    def upload(self, content: Path, ref: str) -> None:
        """The files of a version, the manifest last: it exists from then on. Nothing of it is seen when this fails."""
        with self._errors("write to"):
            for path in sorted(one for one in content.rglob("*") if one.is_file() and one.name != MANIFEST):
                self._files.put_file(str(path), self._at(f"{ref}/{path.relative_to(content).as_posix()}"))
            if not self._create(f"{ref}/{MANIFEST}", (content / MANIFEST).read_bytes()):
                raise LifecycleError(f"{ref} is in {self.url} already; run the same command again")

    def move_alias(self, alias: str, target: str, reason: str) -> AliasMove:
        """Record a move after all that are recorded; the mirror is up to date, and is afterwards."""
        self._require_exclusive()
        while True:
            moves = read_moves(self.mirror)
            source = next((move.target for move in reversed(moves) if move.alias == alias), None)
            move = new_move(alias, source, target, reason)
            with self._errors("write to"):
                created = self._create(f"{MOVES}/{len(moves) + 1:08d}.json", json.dumps(asdict(move)).encode())
                with exclusive(self.mirror):
                    self._pull_moves()
            if created:
                return move

    def remove(self, ref: str) -> None:
        """A version is gone when its manifest is; its claim stays, so that its number is not given out again."""
        with self._errors("write to"):
            self._files.rm_file(self._at(f"{ref}/{MANIFEST}"))
            for path in self._files.find(self._at(ref)):
                if not path.endswith("/" + CLAIM):
                    self._files.rm_file(path)

    # -- the mirror -------------------------------------------------------------------------------------------------------

    def _pull_manifests(self) -> None:
        seen = self._seen()
        found = {}
        for path, facts in self._list(MANIFEST):
            ref = "/".join(path.split("/")[-3:-1])
            found[ref] = "-".join(str(facts.get(key)) for key in ("ETag", "etag", "blob_id", "created", "size"))
            if seen.get(ref) != found[ref] or not (self.mirror / ref / MANIFEST).is_file():
                self._renew(ref, self._files.cat_file(path))
        for gone in self._mirrored() - found.keys():
            shutil.rmtree(self.mirror / gone)
        _write(self.mirror / SEEN, json.dumps(found).encode())

    def _renew(self, ref: str, manifest: bytes) -> None:
        """Another manifest means another version: what there is of the old one goes."""
        place = self.mirror / ref
        if place.is_dir() and (not (place / MANIFEST).is_file() or (place / MANIFEST).read_bytes() != manifest):
            shutil.rmtree(place)
        place.mkdir(parents=True, exist_ok=True)
        _write(place / MANIFEST, manifest)

    def _pull_moves(self) -> None:
        known = read_moves(self.mirror)
        lines = [json.dumps(asdict(move), ensure_ascii=False) for move in known]
        for path in sorted(self._objects(MOVES))[len(known) :]:
            lines.append(json.dumps(asdict(parse_move(self._files.cat_file(path))), ensure_ascii=False))
        _write(self.mirror / ALIASES, "".join(line + "\n" for line in lines).encode())

    def _seen(self) -> dict[str, str]:
        try:
            return json.loads((self.mirror / SEEN).read_bytes())
        except (OSError, ValueError):
            return {}

    def _mirrored(self) -> set[str]:
        return {path.parent.relative_to(self.mirror).as_posix() for path in self.mirror.glob(f"[!.]*/*/{MANIFEST}")}

    def _download(self, path: str, blob: Path, ref: str) -> None:
        blob.parent.mkdir(parents=True, exist_ok=True)
        partial = blob.with_name(f"{uuid.uuid4().hex}.partial")
        try:
            with self._errors("read"):
                self._files.get_file(self._at(path), str(partial))
            if (found := hash_file(partial).sha256) != blob.name:
                raise LifecycleError(
                    f"{ref} is damaged: {path} in {self.url} has sha256 {found[:12]}..., the manifest says {blob.name[:12]}.... "
                    "Restore or republish it"
                )
            partial.chmod(0o444)  # linked into versions: whoever changes it there changes it here
            sync(partial)
            os.replace(partial, blob)
        finally:
            partial.unlink(missing_ok=True)

    # -- objects ----------------------------------------------------------------------------------------------------------

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _list(self, name: str) -> list[tuple[str, dict]]:
        """(path, facts) of <name>/<number>/`name` for all versions."""
        found = self._files.find(self._root, detail=True)
        depth = self._root.rstrip("/").count("/") + 3
        return [
            (path, facts)
            for path, facts in found.items()
            if path.endswith("/" + name) and path.count("/") == depth and path.split("/")[-2].isdigit()
        ]

    def _objects(self, folder: str) -> list[str]:
        return [path for path in self._files.find(self._at(folder)) if path.endswith(".json")]

    def _create(self, path: str, content: bytes) -> bool:
        """False when there is such an object already; of two writers at once, one gets True."""
        try:
            self._files.pipe_file(self._at(path), content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # What S3 says when an object has come into being meanwhile, whatever it is turned into on its way here.
            if "PreconditionFailed" in str(error) or "pre-condition" in str(error).lower() or "ConditionalRequestConflict" in str(error):
                return False
            raise
        return True

    def _require_exclusive(self) -> None:
        if self._protocol not in EXCLUSIVE:
            raise LifecycleError(
                f"the registry {self.url} can be read, not written to: {self._protocol}:// cannot promise that of two writers only "
                "one succeeds. Publish to s3:// or to a directory"
            )

    @contextlib.contextmanager
    def _errors(self, doing: str):
        try:
            yield
        except LifecycleError:
            raise
        except FileNotFoundError as error:
            raise LifecycleError(f"cannot {doing} the registry {self.url}: {error} is missing") from error
        except Exception as error:  # every storage has its own
            raise LifecycleError(f"cannot {doing} the registry {self.url}: {type(error).__name__}: {error}") from error


def mirror_of(url: str) -> Path:
    """Where this machine keeps what it has fetched from `url`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lifecycle" / "registries" / hashlib.sha256(url.encode()).hexdigest()[:16]


def _holds(path: Path, record: FileRecord) -> bool:
    """Whether a file is there, and what was published."""
    return path.is_file() and hash_file(path) == record


def _write(path: Path, content: bytes) -> None:
    """Readers see the old file or the new one."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    partial.write_bytes(content)
    os.replace(partial, path)


def _link(blob: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")  # whoever links the same meanwhile has a name of its own
    try:
        os.link(blob, partial)
    except OSError:  # a file system without links
        shutil.copyfile(blob, partial)
    os.replace(partial, target)
    partial.unlink(missing_ok=True)  # still there where both were one file already
