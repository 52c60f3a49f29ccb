"""Runs a command for as long as somebody holds the other end of standard input, then ends it and removes its directory.

    python keeper.py DIRECTORY COMMAND...

However that somebody ends: a closed pipe needs no last words. Imports the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys

PATIENCE = 10.0  # seconds between asking and killing
GLANCE = 0.5  # seconds between two looks at whether the command has ended by itself


def main() -> None:
    directory, command = sys.argv[1], sys.argv[2:]
    for one in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group, they are for who holds the pipe
        signal.signal(one, signal.SIG_IGN)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while process.poll() is None and not select.select([sys.stdin], [], [], GLANCE)[0]:
            pass
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
