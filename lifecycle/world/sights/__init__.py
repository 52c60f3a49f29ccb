"""The visual world: pictures and clips drawn from a seed, with captions and questions whose answers follow from what was drawn."""

from lifecycle.world.sights.clips import Clip, clips
from lifecycle.world.sights.illustrated import Illustrated, illustrated
from lifecycle.world.sights.questions import SKILLS, VIDEO_SKILLS, Question, correct
from lifecycle.world.sights.sampling import KINDS, SPLITS, held_out, scene_of, scenes
from lifecycle.world.sights.scene import Scene

__all__ = [
    "KINDS",
    "SKILLS",
    "SPLITS",
    "VIDEO_SKILLS",
    "Clip",
    "Illustrated",
    "Question",
    "Scene",
    "clips",
    "correct",
    "held_out",
    "illustrated",
    "scene_of",
    "scenes",
]
