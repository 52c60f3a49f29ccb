"""Compile the kernels for every instruction set, for machines without a compiler: `python -m serving.infrastructure.native.prebuild`.

Each CPU takes the best one that it has. The libraries go where `lifecycle.compiling.cache_directory` says.
"""

from __future__ import annotations

import sys

from lifecycle.compiling import CannotCompile
from serving.infrastructure.native.library import LEVELS, sources


def main() -> int:
    """Exit code: 0 when all of them are there."""
    try:
        for level in LEVELS:
            print(sources(level).compiled())
    except CannotCompile as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
