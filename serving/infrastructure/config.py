"""What `lifecycle serve` can be told, as one flat dataclass. Imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lifecycle.errors import LifecycleError
from serving.domain.config import SchedulerConfig
from serving.domain.policies import UnknownPolicy, make_policy

Backend = Literal["auto", "native", "packed", "padded"]
Dtype = Literal["auto", "float32", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True)
class ServingConfig(SchedulerConfig):
    """The scheduler's knobs, and how to load the model. Raises LifecycleError for a value that cannot work."""

    device: str = "auto"
    """"cpu", "cuda", "cuda:1", ...; "auto" takes a GPU when torch sees one."""
    backend: Backend = "auto"
    """Who computes: "native" kernels of our own for CPUs, "packed" torch without padding over paged KV, "padded" torch through
    transformers' cache; "auto" tries in this order."""
    dtype: Dtype = "auto"
    """Arithmetic of the model; "auto" is bfloat16 where it is fast, else float32, and int8 for a version that is stored in it;
    "int8" rounds another one at load, without the calibration that lifecycle deploy --set dtype=int8 does."""

    def __post_init__(self) -> None:
        try:
            SchedulerConfig.__post_init__(self)  # slots=True makes a new class, which super() would not find
        except ValueError as error:
            raise LifecycleError(f"{error}; change it with --set KEY=VALUE") from None
        for name, known in (("dtype", get_args(Dtype)), ("backend", get_args(Backend))):
            if (chosen := getattr(self, name)) not in known:
                raise LifecycleError(f'unknown {name} "{chosen}": choose one of {", ".join(known)}')
        try:
            make_policy(self.policy, self)
        except UnknownPolicy as error:
            raise LifecycleError(error.message) from None
