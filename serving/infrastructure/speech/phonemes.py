"""From words to the sounds that Kokoro was trained on: CMUdict, with rules for the words that it does not have.

Kokoro writes American English with one sign for each sound, diphthongs included, and marks stress before the vowel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from serving.infrastructure.speech.letters import NAMES, guess
from serving.infrastructure.speech.wording import spoken_words

SOUNDS = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "EH": "ɛ", "ER": "ɜɹ", "EY": "A", "IH": "ɪ",
    "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u", "B": "b", "CH": "ʧ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ",
    "HH": "h", "JH": "ʤ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ",
    "T": "t", "TH": "θ", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}
WEAK = {"AH": "ə", "ER": "əɹ"}
"""Vowels that sound otherwise without stress."""
STRESS = {"1": "ˈ", "2": "ˌ", "0": ""}
UNSTRESSED = {
    "a": "ɐ", "an": "ɐn", "and": "ænd", "as": "æz", "at": "æt", "but": "bʌt", "by": "bI", "can": "kæn", "for": "fɔɹ",
    "from": "fɹʌm", "he": "hi", "her": "hɜɹ", "his": "hɪz", "if": "ɪf", "in": "ɪn", "is": "ɪz", "it": "ɪt", "of": "ʌv",
    "on": "ˌɔn", "or": "ɔɹ", "that": "ðæt", "the": "ðə", "to": "tə", "was": "wʌz", "with": "wɪð", "you": "ju",
}
"""Small words that a sentence passes over."""
BEFORE_VOWEL = {"the": "ði", "to": "tʊ"}
VOWEL_SIGNS = "ɑæʌɔWIɛɜAɪiOYʊuəɐ"
HEARD = ".,!?;:—"
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.,!?;:—]")


class Phonemes:
    """Text to a string of Kokoro's signs. Safe from any thread."""

    def __init__(self, dictionary: Path) -> None:
        self._sounds: dict[str, str] = {}
        with open(dictionary, encoding="utf-8") as lines:
            for line in lines:
                word, _, sounds = line.rstrip("\n").partition("\t")
                self._sounds[word] = sounds

    def __call__(self, text: str) -> str:
        """ "Hello." -> "həlˈO."; empty for a text without a word."""
        pieces = WORD.findall(spoken_words(text))
        said = [piece if piece in HEARD else self._word(piece.lower()) for piece in pieces]
        for at, piece in enumerate(pieces[:-1]):
            if (piece := piece.lower()) in BEFORE_VOWEL and said[at + 1].lstrip("ˈˌ")[:1] in tuple(VOWEL_SIGNS):
                said[at] = BEFORE_VOWEL[piece]
        if all(piece in HEARD for piece in pieces):
            return ""
        return re.sub(r" (?=[.,!?;:])", "", " ".join(filter(None, said))).lstrip(HEARD + " ")

    def _word(self, word: str) -> str:
        if word in UNSTRESSED:
            return UNSTRESSED[word]
        if len(word) == 1 and word in NAMES:
            return signs(NAMES[word].split())
        return signs(self.sounds(word))

    def sounds(self, word: str) -> Sequence[str]:
        """ARPAbet, from the dictionary where it is in it, as itself or without an ending."""
        if found := self._sounds.get(word):
            return found.split()
        if word.endswith(("'s", "s'")) and (base := self._sounds.get(word[:-2].rstrip("'"))):
            return [*base.split(), *_ending(base.split()[-1])]
        if word.endswith("s") and len(word) > 3 and (base := self._sounds.get(word[:-1])):
            return [*base.split(), *_ending(base.split()[-1])]
        if word.endswith("ing") and (base := self._sounds.get(word[:-3]) or self._sounds.get(word[:-3] + "e")):
            return [*base.split(), "IH0", "NG"]
        return self._parts(word) or guess(word.replace("'", ""))

    def _parts(self, word: str) -> Sequence[str] | None:
        """Of two words written as one, the longer first part wins."""
        for at in range(len(word) - 3, 2, -1):
            first, second = self._sounds.get(word[:at]), self._sounds.get(word[at:])
            if first and second:
                return [*first.split(), *second.replace("1", "2").split()]
        return None


def _ending(last: str) -> list[str]:
    if last in ("S", "Z", "SH", "CH", "JH", "ZH"):
        return ["IH0", "Z"]
    return ["S"] if last in ("P", "T", "K", "F", "TH") else ["Z"]


def signs(sounds: Sequence[str]) -> str:
    """ARPAbet with stress in Kokoro's signs."""
    written = []
    for at, sound in enumerate(sounds):
        name, stress = sound.rstrip("012"), sound[-1]
        if name == "T" and _tapped(sounds, at):
            written.append("T")
        elif stress in STRESS:
            written.append(STRESS[stress] + (WEAK.get(name, SOUNDS[name]) if stress == "0" else SOUNDS[name]))
        else:
            written.append(SOUNDS[name])
    return "".join(written)


def _tapped(sounds: Sequence[str], at: int) -> bool:
    """The t of "water": between a vowel and one without stress."""
    before, after = sounds[at - 1] if at else "", sounds[at + 1] if at + 1 < len(sounds) else ""
    return (before[-1:].isdigit() or before == "R") and after.endswith("0")
