"""What learning to see can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.config import check_above_zero, check_seed
from lifecycle.errors import LifecycleError


@dataclass(frozen=True)
class SeeConfig:
    """Everything that decides the weights, apart from the world and the parent."""

    seed: int = 0
    """Decides the first weights of the tower and what is drawn."""
    num_layers: int = 4
    """Blocks of the vision tower."""
    hidden_size: int = 192
    """Width of the vision tower; its feed-forward blocks are four times as wide."""
    num_heads: int = 4
    """Attention heads of the vision tower."""
    contrastive_pictures: int = 96_000
    """Pictures from which the tower learns which words are true of their parts."""
    contrastive_batch: int = 64
    """Pictures of a step of this."""
    contrastive_lr: float = 2e-3
    """Peak learning rate of AdamW in this."""
    contrastive_matrix_lr: float = 0.02
    """Peak learning rate of Muon in this."""
    align_pictures: int = 800
    """Pictures that are captioned while only the projection learns."""
    pictures: int = 20_000
    """Pictures and clips about which questions are asked while the language model learns."""
    batch: int = 8
    """Pictures and clips in an optimizer step of the last two phases."""
    questions: int = 3
    """Most questions about a picture or a clip."""
    written: int = 1
    """Pictures of numbers and words among these, for nine of other kinds."""
    clips: float = 0.125
    """Part of them that are clips of eight pictures."""
    text: float = 0.4
    """Part of the tokens that are conversations without pictures, about which the model is held to what it would have said."""
    lr: float = 4e-4
    """Peak learning rate of AdamW."""
    matrix_lr: float = 2e-3
    """Peak learning rate of Muon, on the projection, whose weights are small, and on the matrices inside the blocks."""
    decoder_pace: float = 2.0
    """How many times these rates are the language model's."""
    held: float = 8.0
    """Weight of what the language model is held to, in the loss."""
    warmup: float = 0.03
    """Part of each phase during which the learning rate rises from zero."""
    dtype: str = "auto"
    """Arithmetic: "fp32", "bf16" (autocast), or "auto": bf16 where this machine is faster in it."""
    save_every: int = 200
    """Steps between two checkpoints to resume from."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_above_zero(self, "num_layers", "num_heads", "contrastive_pictures", "contrastive_batch", "align_pictures", "pictures", "batch",
                         "questions", "written", "lr", "matrix_lr", "contrastive_lr", "contrastive_matrix_lr", "decoder_pace", "held", "save_every")  # fmt: skip
        for name in ("clips", "text"):
            if not 0 <= getattr(self, name) < 1:
                raise LifecycleError(f"{name} is a part, from 0 to below 1, not {getattr(self, name)}")
        if self.hidden_size % self.num_heads or self.hidden_size % 4:
            raise LifecycleError(f"hidden_size {self.hidden_size} must be a multiple of 4 and of num_heads {self.num_heads}")


PRESETS = {
    "tiny": SeeConfig(),
    "laptop": SeeConfig(
        num_layers=6, num_heads=6, contrastive_pictures=192_000, align_pictures=1600, pictures=64_000, batch=16, questions=4, written=3,
        clips=0.25, text=0.3,
    ),
}
PRESETS["gpu"] = PRESETS["cluster"] = SeeConfig(
    num_layers=12, hidden_size=384, num_heads=6, contrastive_pictures=1_000_000, contrastive_batch=256, align_pictures=50_000,
    pictures=2_000_000, batch=128, lr=1e-4, matrix_lr=1e-3,
)  # fmt: skip
