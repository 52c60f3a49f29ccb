"""What learning to hear and to speak can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.config import check_above_zero, check_seed
from lifecycle.errors import LifecycleError


@dataclass(frozen=True)
class SpeakConfig:
    """Everything that decides the weights, apart from the recordings and the parent."""

    seed: int = 0
    """Decides the first weights and what is said when, how and in which noise."""
    codec: str = ""
    """Empty: patterns of sound that are found here. Else a Mimi or EnCodec of transformers, its directory or hub name."""
    codebooks: int = 2
    """Of such a codec: how many codes, from coarse to fine, are read and written for each of its frames."""
    codec_utterances: int = 1200
    """Utterances in whose spectrograms the codec finds its patterns."""
    codec_rounds: int = 10
    """How often each pattern becomes the mean of what is nearest to it."""
    utterances: int = 128_000
    """Utterances that the language model hears."""
    batch: int = 64
    """Utterances in one of its steps."""
    aloud: float = 0.25
    """Part of them that are answered, in text and aloud; of the others it is learnt what was said."""
    text: float = 0.2
    """Part of the tokens that are conversations without sound, about which the model is held to what it would have said."""
    former: float = 2.0
    """How much what it would have said weighs beside what it hears and says."""
    conversations: int = 4000
    """Most of these that are told for it."""
    lr: float = 4e-3
    """Peak learning rate of AdamW."""
    matrix_lr: float = 0.02
    """Peak learning rate of Muon, on the matrices inside the blocks."""
    warmup: float = 0.03
    """Part of each phase during which the learning rate rises from zero."""
    dtype: str = "auto"
    """Arithmetic: "fp32", "bf16" (autocast), or "auto": bf16 where this machine is faster in it."""
    save_every: int = 50
    """Steps between two checkpoints to resume from."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_above_zero(self, "codebooks", "codec_utterances", "codec_rounds", "conversations", "utterances",
                         "batch", "former", "lr", "matrix_lr", "save_every")  # fmt: skip
        for name in ("text", "aloud"):
            if not 0 <= getattr(self, name) < 1:
                raise LifecycleError(f"{name} is a part, from 0 to below 1, not {getattr(self, name)}")


PRESETS = {
    "tiny": SpeakConfig(),
    "laptop": SpeakConfig(codec_utterances=5000, conversations=20_000, utterances=400_000),
}
PRESETS["gpu"] = PRESETS["cluster"] = SpeakConfig(codec_utterances=10_000, conversations=50_000, utterances=1_000_000, batch=256, lr=1e-3, matrix_lr=5e-3)
