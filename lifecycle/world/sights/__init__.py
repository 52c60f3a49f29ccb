"""The visual world: pictures drawn from a seed, with captions and questions whose answers follow from what was drawn."""

from lifecycle.world.sights.questions import SKILLS, Question, correct
from lifecycle.world.sights.sampling import KINDS, SPLITS, held_out, scenes
from lifecycle.world.sights.scene import Scene

__all__ = ["KINDS", "SKILLS", "SPLITS", "Question", "Scene", "correct", "held_out", "scenes"]
