"""Speech of the world: recordings of a few voices, and the many ways in which they may reach an ear."""

from lifecycle.world.speech.bank import ANSWERER, RATE, UNHEARD, VOICES, recorded, recordings
from lifecycle.world.speech.phrases import Exchange, exchanges
from lifecycle.world.speech.varied import Heard, varied

__all__ = ["ANSWERER", "RATE", "UNHEARD", "VOICES", "Exchange", "Heard", "exchanges", "recorded", "recordings", "varied"]
