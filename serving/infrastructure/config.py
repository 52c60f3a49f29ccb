"""What `lifecycle serve` can be told, as one flat dataclass. Imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lifecycle.errors import LifecycleError
from serving.domain.canary import CanaryRules
from serving.domain.config import SchedulerConfig
from serving.domain.policies import UnknownPolicy, make_policy
from serving.infrastructure.cluster.config import ReplicaConfig
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.speech.config import SpeechConfig

Backend = Literal["auto", "native", "packed", "padded"]
Dtype = Literal["auto", "float32", "bfloat16", "int8"]
CacheDtype = Literal["auto", "int8"]
Speculative = Literal["off", "ngram", "draft"]


@dataclass(frozen=True, slots=True)
class ServingConfig(SchedulerConfig, MediaLimits, SpeechConfig, ReplicaConfig, CanaryRules):
    """The scheduler's knobs, how to load the model, what pictures may cost, who hears and speaks, how a version is tried.

    Raises LifecycleError for a value that cannot work.
    """

    device: str = "auto"
    """"cpu", "cuda", "cuda:1", ...; "auto" takes a GPU when torch sees one."""
    backend: Backend = "auto"
    """Who computes: "native" kernels of our own for CPUs, "packed" torch without padding over paged KV, "padded" torch through
    transformers' cache; "auto" tries in this order."""
    adapters: bool = False
    """LoRA adapters may be added. Torch applies them, so the native kernels are left out."""
    dtype: Dtype = "auto"
    """Arithmetic of the model; "auto" is bfloat16 where it is fast, else float32, and int8 for a version that is stored in it;
    "int8" rounds another one at load, without the calibration that lifecycle deploy --target int8 does."""
    kv_cache_dtype: CacheDtype = "auto"
    """What keys and values are kept in: "auto" is the model's own arithmetic, "int8" half of that, by the native backend."""
    picture_cache_mb: int = 64
    """Most memory in MiB for what a model that sees has made of pictures, kept for whoever shows the same ones again; with
    less than one picture takes, it is computed anew for every chunk of a prompt."""
    speculative: Speculative = "off"
    """Who guesses tokens for the model to check: "ngram" looks them up in the text so far, "draft" asks a smaller model."""
    draft_model: str = ""
    """speculative=draft: the smaller model, a registry version or a directory; it has to have the same vocabulary."""
    prompt_lookup_min: int = 2
    """speculative=ngram: how many of the last tokens must have been seen before, at least."""
    prompt_lookup_max: int = 4
    """speculative=ngram: how many of them are compared to choose between several places."""

    def __post_init__(self) -> None:
        try:
            SchedulerConfig.__post_init__(self)  # slots=True makes a new class, which super() would not find
            CanaryRules.__post_init__(self)
        except ValueError as error:
            raise LifecycleError(f"{error}; change it with --set KEY=VALUE") from None
        MediaLimits.__post_init__(self)
        SpeechConfig.__post_init__(self)
        ReplicaConfig.__post_init__(self)
        for name, known in (
            ("dtype", get_args(Dtype)),
            ("backend", get_args(Backend)),
            ("kv_cache_dtype", get_args(CacheDtype)),
            ("speculative", get_args(Speculative)),
        ):
            if (chosen := getattr(self, name)) not in known:
                raise LifecycleError(f'unknown {name} "{chosen}": choose one of {", ".join(known)}')
        try:
            make_policy(self.policy, self)
        except UnknownPolicy as error:
            raise LifecycleError(error.message) from None
        if self.picture_cache_mb < 0:
            raise LifecycleError(f"picture_cache_mb must be at least 0, not {self.picture_cache_mb}; change it with --set KEY=VALUE")
        if self.adapters and self.backend == "native":
            raise LifecycleError("the native kernels apply no adapters: leave --backend out, or say --backend packed")
        self._check_drafter()

    def _check_drafter(self) -> None:
        if not 1 <= self.prompt_lookup_min <= self.prompt_lookup_max:
            raise LifecycleError(
                f"prompt_lookup_min ({self.prompt_lookup_min}) must be at least 1 and at most prompt_lookup_max "
                f"({self.prompt_lookup_max}); change it with --set KEY=VALUE"
            )
        if self.speculative == "draft" and not self.draft_model:
            raise LifecycleError(
                "speculative=draft needs a smaller model: add --set draft_model=REF (lifecycle models lists what there is)"
            )
        if self.draft_model and self.speculative != "draft":
            raise LifecycleError(
                f'draft_model is "{self.draft_model}", but speculative is "{self.speculative}": add --set speculative=draft'
            )
