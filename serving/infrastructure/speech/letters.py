"""How an English word that no dictionary has may be pronounced, letter group by letter group.

Rules of our own, tried in order at each place of the word: (what stands before, the letters, what follows, sounds). The
contexts are regular expressions. Sounds are ARPAbet without stress, as in CMUdict; the first vowel is stressed.
"""

from __future__ import annotations

import re

RULES = [
    (re.compile(before + "$"), letters, re.compile(after), tuple(sounds.split()))
    for before, letters, after, sounds in (
        ("", "tion", "", "SH AH N"), ("", "sion", "", "ZH AH N"), ("", "cious", "", "SH AH S"),
        ("", "tious", "", "SH AH S"), ("", "cian", "", "SH AH N"), ("", "ture", "$", "CH ER"),
        ("", "ous", "$", "AH S"), ("", "able", "$", "AH B AH L"), ("[^aeiou]", "le", "$", "AH L"),
        ("", "tch", "", "CH"), ("", "sch", "", "SH"), ("^", "chr", "", "K R"), ("", "ch", "", "CH"),
        ("", "sh", "", "SH"), ("", "th", "", "TH"), ("", "ph", "", "F"), ("^", "wr", "", "R"), ("", "wh", "", "W"),
        ("^", "kn", "", "N"), ("^", "gn", "", "N"), ("^", "ps", "", "S"), ("^", "x", "", "Z"),
        ("", "igh", "", "AY"), ("", "ough", "", "AO"), ("", "augh", "", "AO"), ("", "gh", "", "G"),
        ("", "dge", "", "JH"), ("", "ck", "", "K"), ("", "ng", "$|[^aeiouy]", "NG"), ("", "nk", "", "NG K"),
        ("", "qu", "", "K W"), ("", "q", "", "K"), ("", "sc", "[eiy]", "S"), ("", "cc", "[eiy]", "K S"),
        ("", "c", "[eiy]", "S"), ("", "c", "", "K"), ("", "gg", "", "G"), ("", "g", "[eiy]", "JH"), ("", "g", "", "G"),
        ("[aeiou]", "s", "[aeiou]|$", "Z"), ("[bdglmnrvw]", "s", "$", "Z"), ("", "s", "", "S"),
        ("[td]", "ed", "$", "IH D"), ("[pkfcxs]|sh|ch", "ed", "$", "T"), ("[^aeiou]", "ed", "$", "D"),
        ("[sxz]|ch|sh", "es", "$", "IH Z"),
        ("", "air", "", "EH R"), ("", "ear", "", "IH R"), ("", "eer", "", "IH R"), ("", "oar", "", "AO R"),
        ("", "our", "", "AW ER"), ("", "ar", "", "AA R"), ("", "or", "", "AO R"), ("", "er", "", "ER"),
        ("", "ir", "", "ER"), ("", "ur", "", "ER"),
        ("", "ai", "", "EY"), ("", "ay", "", "EY"), ("", "au", "", "AO"), ("", "aw", "", "AO"), ("", "ee", "", "IY"),
        ("", "ea", "", "IY"), ("", "ei", "", "IY"), ("", "ey", "$", "IY"), ("", "ey", "", "EY"), ("", "eu", "", "Y UW"),
        ("", "ew", "", "UW"), ("", "ie", "$", "IY"), ("", "ie", "", "IY"), ("", "oa", "", "OW"), ("", "oe", "$", "OW"),
        ("", "oi", "", "OY"), ("", "oy", "", "OY"), ("", "oo", "", "UW"), ("", "ou", "", "AW"), ("", "ow", "$", "OW"),
        ("", "ow", "", "AW"), ("", "ue", "$", "UW"), ("", "ui", "", "UW"),
        ("", "a", "[^aeiouwxy]e$", "EY"), ("", "e", "[^aeiouwxy]e$", "IY"), ("", "i", "[^aeiouwxy]e$", "AY"),
        ("", "o", "[^aeiouwxy]e$", "OW"), ("", "u", "[^aeiouwxy]e$", "UW"), ("", "y", "[^aeiouwxy]e$", "AY"),
        ("[aeiouy].*[^aeiouy]", "e", "$", ""), ("[aeiouy].*[^aeiouy]", "e", "s$", ""),
        ("", "a", "$", "AH"), ("", "o", "$", "OW"), ("", "i", "$", "IY"), ("", "u", "$", "UW"), ("", "e", "$", "IY"),
        ("", "a", "", "AE"), ("", "e", "", "EH"), ("", "i", "", "IH"), ("", "o", "", "AA"), ("", "u", "", "AH"),
        ("^", "y", "", "Y"), ("^[^aeiou]+", "y", "$", "AY"), ("", "y", "$", "IY"), ("", "y", "", "IH"),
        ("", "bb", "", "B"), ("", "dd", "", "D"), ("", "ff", "", "F"), ("", "ll", "", "L"), ("m", "b", "$", ""),
        ("", "mm", "", "M"), ("", "nn", "", "N"), ("", "pp", "", "P"), ("", "rr", "", "R"), ("", "tt", "", "T"),
        ("", "zz", "", "Z"), ("", "b", "", "B"), ("", "d", "", "D"), ("", "f", "", "F"), ("", "h", "", "HH"),
        ("", "j", "", "JH"), ("", "k", "", "K"), ("", "l", "", "L"), ("", "m", "", "M"), ("", "n", "", "N"),
        ("", "p", "", "P"), ("", "r", "", "R"), ("", "t", "", "T"), ("", "v", "", "V"), ("", "w", "", "W"),
        ("", "x", "", "K S"), ("", "z", "", "Z"),
    )
]
NAMES = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "EY1;B IY1;S IY1;D IY1;IY1;EH1 F;JH IY1;EY1 CH;AY1;JH EY1;K EY1;EH1 L;EH1 M;EH1 N;OW1;P IY1;K Y UW1;AA1 R;EH1 S;"
        "T IY1;Y UW1;V IY1;D AH1 B AH0 L Y UW0;EH1 K S;W AY1;Z IY1".split(";"),
        strict=True,
    )
)
"""How the letters themselves are called."""
VOWELS = tuple("AEIOU")


def guess(word: str) -> list[str]:
    """ARPAbet sounds with stress for a word in small letters; other characters are passed over."""
    if word and not set(word) & set("aeiouy"):
        return [sound for letter in word if letter in NAMES for sound in NAMES[letter].split()]
    sounds: list[str] = []
    at = 0
    while at < len(word):
        for before, letters, after, said in RULES:
            if word.startswith(letters, at) and before.search(word, 0, at) and after.match(word, at + len(letters)):
                sounds += said
                at += len(letters)
                break
        else:
            at += 1
    return _stressed(sounds)


def _stressed(sounds: list[str]) -> list[str]:
    first = next((at for at, sound in enumerate(sounds) if sound.startswith(VOWELS)), None)
    return [
        sound + ("1" if at == first else "0") if sound.startswith(VOWELS) else sound for at, sound in enumerate(sounds)
    ]
