"""Who and what there is. Every word is one that a small tokenizer keeps whole; all things take "a", all places "in the"."""

from __future__ import annotations

GIRLS = ("Anna", "Clara", "Emma", "Lily", "Mia", "Nora", "Rosa", "Sara")
BOYS = ("Adam", "Ben", "David", "Finn", "Leo", "Max", "Paul", "Tom")
PEOPLE = GIRLS + BOYS
PRONOUN = {**dict.fromkeys(GIRLS, "she"), **dict.fromkeys(BOYS, "he")}

THINGS = ("ball", "bell", "book", "coin", "cup", "doll", "drum", "hat", "kite", "key", "lamp", "map", "ring", "rope")
COLOURS = ("red", "blue", "green", "yellow", "white", "black")
PLACES = (
    "barn", "cave", "forest", "garden", "hall", "kitchen", "library", "market", "park", "school", "shop", "tower",
)  # fmt: skip
FEELINGS = ("bored", "cold", "curious", "happy", "hungry", "sad", "tired")

# animal: (sound, food, home)
ANIMALS = {
    "bird": ("tweet", "seeds", "nest"),
    "cat": ("meow", "fish", "basket"),
    "cow": ("moo", "grass", "field"),
    "dog": ("woof", "bones", "kennel"),
    "duck": ("quack", "bread", "pond"),
    "hen": ("cluck", "corn", "coop"),
    "horse": ("neigh", "hay", "stable"),
    "mouse": ("squeak", "cheese", "hole"),
    "pig": ("oink", "roots", "sty"),
    "sheep": ("baa", "clover", "pen"),
}

WEATHER = ("sunny", "rainy", "windy", "snowy", "cloudy", "foggy")
