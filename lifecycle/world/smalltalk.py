"""Greetings, and questions from outside the world, to which the only honest answer is "I don't know."."""

from __future__ import annotations

GREETINGS = {
    "Hello!": "Hello! Ask me about a story, a sum or an animal.",
    "Hi!": "Hello! Ask me about a story, a sum or an animal.",
    "Good morning!": "Good morning! Ask me about a story, a sum or an animal.",
    "How are you?": "I am happy. Thank you.",
    "Thank you.": "You are welcome.",
    "Who are you?": "I am a small model. I know stories, sums and animals.",
    "What can you do?": "I can tell stories, answer questions about them and work out sums.",
    "Goodbye!": "Goodbye!",
}

SUBJECTS = (
    "France", "Spain", "the moon", "the sun", "the sea", "a car", "a train", "gold", "a computer", "the king",
    "a mountain", "the president", "the river", "a star", "bread", "music", "the city", "a ship", "Italy", "winter",
)  # fmt: skip
OUTSIDE = ("What is the capital of {x}?", "How big is {x}?", "Who made {x}?", "How old is {x}?", "What does {x} cost?", "Why is {x} famous?")
