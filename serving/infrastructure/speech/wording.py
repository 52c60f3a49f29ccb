"""From text as it is written to words as they are spoken: numbers, signs, abbreviations, acronyms. English."""

from __future__ import annotations

import re

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
MOST_DIGITS = 15
"""Longer numbers are read digit by digit."""
IRREGULAR = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}
ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "st": "saint", "prof": "professor", "vs": "versus",
    "etc": "et cetera", "e.g": "for example", "i.e": "that is", "jr": "junior", "sr": "senior",
}
"""Without their last full stop, which has to be there."""
SIGNS = {
    "%": "percent", "&": "and", "@": "at", "+": "plus", "=": "equals", "×": "times", "*": "times", "÷": "divided by",
    "°": "degrees", "€": "euros", "£": "pounds", "$": "dollars", "#": "number", "<": "less than", ">": "greater than",
    "/": "slash", "−": "minus", "^": "to the power of", "~": "about",
}
CURRENCIES = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}
MARKUP = re.compile(r"```.*?```|[`_]|\*\*|^#+ |^\s*[*-] ", re.DOTALL | re.MULTILINE)
"""Of Markdown; a list's mark begins its line."""
SPELLED = re.compile(r"\b(?:[A-Z]\.){2,}|\b(?=[A-Z]*[B-DF-HJ-NP-TV-XZ])[A-Z]{2,3}\b")
PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "…": ".", "\u00a0": " "})


def spoken_words(text: str) -> str:
    """The text in words, with the punctuation that is heard: . , ! ? ; : and the long dash."""
    text = MARKUP.sub("", text.translate(PLAIN))
    text = re.sub(r"\s-+\s|—", " — ", re.sub(r"(\d)\s*-\s*(\d)(?=[\d\s]*[=?.]|\s*$)", r"\1 minus \2", text))
    text = re.sub(r"\b(e\.g|i\.e|mrs?|ms|dr|st|prof|vs|etc|jr|sr)\.", _abbreviation, text, flags=re.IGNORECASE)
    text = SPELLED.sub(lambda found: " ".join(found.group().replace(".", "")), text)
    text = re.sub(r"([$€£])(\d[\d,]*)(?:\.(\d\d))?", _money, text)
    text = re.sub(r"\b(\d{1,2}):(\d\d)\b", _time, text)
    text = re.sub(r"\b(\d+)(st|nd|rd|th)\b", lambda found: ordinal(int(found[1])), text)
    text = re.sub(r"(?<=\d)\s*/\s*(?=\d)", " over ", re.sub(r"(?<=\d)\s*[x](?=\s*\d)", " times ", text))
    text = re.sub(r"(?<![\w.])-(?=\d)", " minus ", text)
    text = re.sub(r"\d[\d,]*(?:\.\d+)?", _number, text)
    text = "".join(f" {SIGNS[one]} " if one in SIGNS else one for one in text)
    text = re.sub(r"[^\w\s.,!?;:'—-]|_", " ", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text)
    return re.sub(r"\s+", " ", text).strip()


def cardinal(number: int) -> str:
    """17 -> "seventeen"; at most `MOST_DIGITS` digits."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")
    scale, name = next((scale, name) for scale, name in SCALES if number >= scale)
    rest = number % scale
    return f"{cardinal(number // scale)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """22 -> "twenty second"."""
    if len(str(number)) > MOST_DIGITS:
        return _digits(str(number))
    *before, last = cardinal(number).split()
    last = IRREGULAR.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*before, last])


def _digits(text: str) -> str:
    return " ".join(ONES[int(one)] for one in text if one in "0123456789")


def _number(found: re.Match[str]) -> str:
    whole, point, fraction = found.group().partition(".")
    comma = "," if whole.endswith(",") and not point else ""
    figures = whole.replace(",", "")
    if not figures.isascii():
        return " "
    if len(figures) > MOST_DIGITS or (len(figures) > 1 and figures[0] == "0"):
        said = _digits(figures)
    elif len(figures) == 4 and "," not in whole.rstrip(",") and figures[:2] in ("17", "18", "19") and not point:
        said = _year(int(figures))
    else:
        said = cardinal(int(figures))
    return f" {said}{' point ' + _digits(fraction) if point else ''}{comma} "


def _year(year: int) -> str:
    century, rest = divmod(year, 100)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def _money(found: re.Match[str]) -> str:
    big, small = CURRENCIES[found[1]]
    amount, cents = int(found[2].replace(",", "")), int(found[3] or 0)
    said = f"{found[2].rstrip(',')} {big}{'' if amount == 1 else 's'}"
    if cents:
        pence = small if cents == 1 else {"penny": "pence"}.get(small, small + "s")
        said += f" and {cents} {pence}"
    return said + ("," if found[2].endswith(",") else "")


def _time(found: re.Match[str]) -> str:
    hour, minute = int(found[1]), int(found[2])
    if hour > 24 or minute > 59:
        return f"{hour} to {minute}"
    return f"{hour} {'' if minute == 0 else 'oh ' + str(minute) if minute < 10 else minute}"


def _abbreviation(found: re.Match[str]) -> str:
    return ABBREVIATIONS.get(found[1].lower(), found[0])  # a long s is an s to the pattern, and not to the table
