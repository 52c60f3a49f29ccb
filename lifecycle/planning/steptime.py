"""How long a step takes, as four numbers: t = base + per_token * tokens + per_position * kv_read + per_sequence * sequences.

`base` is what a step costs however little it computes (reading the weights), `per_token` the arithmetic, `per_position`
reading keys and values, `per_sequence` the sampling and bookkeeping of one more row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from lifecycle.errors import LifecycleError

UNITS = {"ms": 1e3, "us/token": 1e6, "ns/position": 1e9, "us/sequence": 1e6}
"""In which each is written, and how many of them a second has."""


@dataclass(frozen=True, slots=True)
class StepTimeModel:
    """Seconds. The defaults were measured on an early engine: 15.7M parameters, bfloat16, one core."""

    base: float = 1.4e-2
    per_token: float = 2.4e-4
    per_position: float = 1.2e-6
    per_sequence: float = 4.0e-5

    def __call__(self, tokens: int, kv_read: int, sequences: int) -> float:
        """Seconds of a step."""
        return self.base + self.per_token * tokens + self.per_position * kv_read + self.per_sequence * sequences

    def __str__(self) -> str:
        return " + ".join(f"{value * scale:.3g} {unit}" for value, (unit, scale) in zip(asdict(self).values(), UNITS.items(), strict=True))

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` writes, as `lifecycle simulate --fit` prints it. Raises LifecycleError for anything else."""
        parts = [part.split() for part in text.split("+ ")]
        try:
            if [unit for _, unit in parts] == list(UNITS):
                return cls(*(float(value) / scale for (value, _), scale in zip(parts, UNITS.values(), strict=True)))
        except ValueError:
            pass
        raise LifecycleError(f'cannot read the step time "{text}": write it as lifecycle simulate --fit prints it, for example "{cls()}"')
