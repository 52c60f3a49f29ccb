"""One dial for the whole lifecycle: a preset names the configuration of every stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from lifecycle.config import choose
from lifecycle.deploy.config import PRESETS as DEPLOY
from lifecycle.deploy.config import DeployConfig
from lifecycle.feedback.config import PRESETS as FEEDBACK
from lifecycle.feedback.config import FeedbackConfig
from lifecycle.pretrain.config import PRESETS as PRETRAIN
from lifecycle.pretrain.config import PretrainConfig
from lifecycle.rlhf.config import PRESETS as RLHF
from lifecycle.rlhf.config import RLHFConfig
from lifecycle.see.config import PRESETS as SEE
from lifecycle.see.config import SeeConfig
from lifecycle.sft.config import PRESETS as SFT
from lifecycle.sft.config import SFTConfig
from lifecycle.speak.config import PRESETS as SPEAK
from lifecycle.speak.config import SpeakConfig
from lifecycle.world.config import PRESETS as WORLD
from lifecycle.world.config import WorldConfig


@dataclass(frozen=True)
class Preset:
    """The configuration of every stage."""

    world: WorldConfig
    pretrain: PretrainConfig
    sft: SFTConfig
    rlhf: RLHFConfig
    deploy: DeployConfig
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    see: SeeConfig = field(default_factory=SeeConfig)
    speak: SpeakConfig = field(default_factory=SpeakConfig)


def preset(name: str) -> Preset:
    """The preset of that name; raises LifecycleError that lists them all."""
    choose("preset", name, WORLD)
    return Preset(WORLD[name], PRETRAIN[name], SFT[name], RLHF[name], DEPLOY[name], FEEDBACK[name], SEE[name], SPEAK[name])
