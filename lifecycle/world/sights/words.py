"""What can be seen: drawings, shapes, colours, places and writing, under names that the stories know where they can."""

from __future__ import annotations

from lifecycle.world.vocabulary import GOODS, NUMBERS, THINGS

DRAWINGS: dict[str, int] = {
    # things
    "bag": 0x1F45C, "ball": 0x26BD, "balloon": 0x1F388, "bell": 0x1F514, "boat": 0x26F5, "book": 0x1F4D5,
    "boot": 0x1F97E, "bottle": 0x1F37C, "box": 0x1F4E6, "broom": 0x1F9F9, "brush": 0x1F58C, "bucket": 0x1FAA3,
    "candle": 0x1F56F, "cap": 0x1F9E2, "clock": 0x23F0, "coat": 0x1F9E5, "coin": 0x1FA99, "crown": 0x1F451,
    "cup": 0x2615, "doll": 0x1FA86, "drum": 0x1F941, "feather": 0x1FAB6, "flag": 0x1F6A9, "glove": 0x1F94A,
    "guitar": 0x1F3B8, "hammer": 0x1F528, "hat": 0x1F3A9, "hook": 0x1FA9D, "jar": 0x1FAD9, "key": 0x1F511,
    "kite": 0x1FA81, "knife": 0x1F52A, "ladder": 0x1FA9C, "lamp": 0x1F4A1, "letter": 0x2709, "lock": 0x1F512,
    "magnet": 0x1F9F2, "map": 0x1F5FA, "medal": 0x1F3C5, "mirror": 0x1FA9E, "mug": 0x1F37A, "pan": 0x1F373,
    "pencil": 0x270F, "pin": 0x1F4CC, "puzzle": 0x1F9E9, "ribbon": 0x1F380, "ring": 0x1F48D, "robot": 0x1F916,
    "ruler": 0x1F4CF, "scarf": 0x1F9E3, "shield": 0x1F6E1, "sled": 0x1F6F7, "spoon": 0x1F944, "tent": 0x26FA,
    "ticket": 0x1F3AB, "torch": 0x1F526, "trumpet": 0x1F3BA, "tube": 0x1F9EA, "vase": 0x1F3FA, "violin": 0x1F3BB,
    "watch": 0x231A, "anchor": 0x2693, "axe": 0x1FA93, "basket": 0x1F9FA, "bed": 0x1F6CF, "bicycle": 0x1F6B2,
    "bone": 0x1F9B4, "bus": 0x1F68C, "camera": 0x1F4F7, "car": 0x1F697, "castle": 0x1F3F0, "chair": 0x1FA91,
    "door": 0x1F6AA, "dress": 0x1F457, "house": 0x1F3E0, "phone": 0x1F4F1, "plane": 0x2708, "present": 0x1F381,
    "rocket": 0x1F680, "saw": 0x1FA9A, "shirt": 0x1F455, "shoe": 0x1F45E, "snowman": 0x26C4, "sock": 0x1F9E6,
    "teapot": 0x1FAD6, "tractor": 0x1F69C, "train": 0x1F682, "umbrella": 0x2602,
    # animals
    "bear": 0x1F43B, "bee": 0x1F41D, "bird": 0x1F426, "butterfly": 0x1F98B, "cat": 0x1F431, "cow": 0x1F42E,
    "crab": 0x1F980, "dog": 0x1F436, "duck": 0x1F986, "elephant": 0x1F418, "fish": 0x1F41F, "fox": 0x1F98A,
    "frog": 0x1F438, "hen": 0x1F414, "horse": 0x1F434, "lion": 0x1F981, "monkey": 0x1F435, "mouse": 0x1F42D,
    "octopus": 0x1F419, "owl": 0x1F989, "penguin": 0x1F427, "pig": 0x1F437, "rabbit": 0x1F430, "sheep": 0x1F411,
    "snail": 0x1F40C, "snake": 0x1F40D, "spider": 0x1F577, "turtle": 0x1F422, "whale": 0x1F40B, "wolf": 0x1F43A,
    # food and plants
    "apple": 0x1F34E, "banana": 0x1F34C, "cactus": 0x1F335, "cake": 0x1F382, "carrot": 0x1F955, "cherry": 0x1F352,
    "cookie": 0x1F36A, "egg": 0x1F95A, "flower": 0x1F337, "leaf": 0x1F341, "lemon": 0x1F34B, "melon": 0x1F349,
    "mushroom": 0x1F344, "nut": 0x1F330, "pear": 0x1F350, "pineapple": 0x1F34D, "pizza": 0x1F355,
    "strawberry": 0x1F353, "tomato": 0x1F345, "tree": 0x1F333,
}  # fmt: skip
"""The code point of each drawing: in OpenMoji and in Noto Emoji alike."""
UNSEEN = (
    "bus", "castle", "clock", "drum", "duck", "elephant", "hat", "jar", "kite", "pear", "pineapple", "rocket", "scarf",
    "turtle",
)  # fmt: skip
"""Drawings that only the split "unseen" shows."""
SEEN = tuple(word for word in DRAWINGS if word not in UNSEEN)
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "diamond")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 38, 38),
    "blue": (37, 80, 220),
    "green": (34, 160, 60),
    "yellow": (245, 215, 40),
    "purple": (140, 50, 170),
    "pink": (250, 150, 195),
    "black": (18, 18, 18),
    "white": (252, 252, 252),
}
_LEVELS = (30, 90, 150)
TINTS = tuple(
    f"#{red:02x}{green:02x}{blue:02x}"
    for red in _LEVELS
    for green in _LEVELS
    for blue in _LEVELS
    if min(abs(red - r) + abs(green - g) + abs(blue - b) for r, g, b in COLOURS.values()) >= 90
)
"""Colours that have no name here, all far from a light ground: what a shape is like in these is no combination that is held out."""
PLACES: dict[str, tuple[float, float]] = {
    "top left": (0.2, 0.2),
    "top": (0.5, 0.2),
    "top right": (0.8, 0.2),
    "left": (0.2, 0.5),
    "middle": (0.5, 0.5),
    "right": (0.8, 0.5),
    "bottom left": (0.2, 0.8),
    "bottom": (0.5, 0.8),
    "bottom right": (0.8, 0.8),
}
"""Centres as shares of the picture's width and height; y points down."""
EVENTS = ("left", "right", "up", "down", "appears", "vanishes", "turns")
"""What can happen in a clip: a thing moves in one of four directions, appears, vanishes, or turns into something else."""
COUNTS = NUMBERS[1:6]
FRAMING = frozenset({"picture", "word", "number", "written", "shape"})  # words of questions and answers themselves
_IRREGULAR = {"fish": "fish", "knife": "knives", "leaf": "leaves", "mouse": "mice", "scarf": "scarves", "sheep": "sheep",
              "wolf": "wolves", "tomato": "tomatoes"}  # fmt: skip


def rgb(colour: str) -> tuple[int, int, int]:
    """Of one of `COLOURS` or `TINTS`."""
    return COLOURS[colour] if colour in COLOURS else tuple(bytes.fromhex(colour[1:]))


def plural(word: str) -> str:
    """More than one of it."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def a(words: str) -> str:
    """With "a" or "an" before it."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def at(place: str) -> str:
    """ "on the left", "at the top right", "in the middle"."""
    before = {"left": "on", "right": "on", "middle": "in"}.get(place, "at")
    return f"{before} the {place}"


def number_of(word: str, count: int) -> str:
    """ "one ball", "three balls"."""
    return f"{NUMBERS[count]} {word if count == 1 else plural(word)}"


_SHOWN = {plural(word) for word in (*DRAWINGS, *SHAPES)}
WRITTEN = tuple(sorted({word for word in (*THINGS, *GOODS) if 3 <= len(word) <= 5} - FRAMING - _SHOWN))
"""Words that stand written in pictures."""
