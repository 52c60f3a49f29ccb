"""What the passes of kernels.cpp are worth: every loop that is marked for it is one over vectors."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lifecycle.compiling import COMMON_FLAGS
from lifecycle.model import kernels

SOURCE = Path(kernels.__file__).with_suffix(".cpp")


@pytest.mark.skipif(shutil.which("g++") is None or platform.machine() != "x86_64", reason="what g++ says of its loops, on x86-64")
@pytest.mark.parametrize("number", kernels.NUMBERS.values())
def test_every_simd_loop_becomes_vectors(number, tmp_path):
    flags = (*COMMON_FLAGS, *kernels.FLAGS, f"-DNUMBER={number}", "-fopt-info-vec")
    told = subprocess.run(["g++", *flags, SOURCE, "-o", tmp_path / "kernels.so"], capture_output=True, text=True, check=True).stderr
    vectors = set(map(int, re.findall(r"kernels\.cpp:(\d+):\d+: optimized: loop vectorized", told)))
    lines = SOURCE.read_text().splitlines()
    marked = [n for n, line in enumerate(lines, start=1) if "SIMD for" in line or "omp simd reduction" in line]
    near = {line for n in vectors for line in (n - 1, n)}  # told of the loop's head or of its first statement
    assert marked
    assert not [lines[n - 1].strip() for n in marked if n not in near]
