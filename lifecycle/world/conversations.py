"""SFT conversations: questions about stories, writing, sums, tools, facts, small talk, and what the assistant can't know."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset

from lifecycle.registry import DataRef
from lifecycle.world.arithmetic import NUMBER_GAMES, PHRASINGS, draw_sum
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import content_hash
from lifecycle.world.dialogue import draw_dialogue
from lifecycle.world.extraction import draw_extraction
from lifecycle.world.knowledge import facts
from lifecycle.world.questions import DONT_KNOW, add_unanswerable, ask, deep_first
from lifecycle.world.smalltalk import GREETINGS, OUTSIDE, SUBJECTS, draw_wish
from lifecycle.world.stories import write_story
from lifecycle.world.tools import draw_tool_use, offer
from lifecycle.world.writing import assign

Message = dict[str, Any]
Conversation = dict[str, Any]  # {"messages": [...], "tools": [...] or None}


def sft_conversations(config: WorldConfig) -> tuple[Dataset, DataRef]:
    """Conversations in the columns "messages" and "tools", both as TRL reads them, and the data's id and hash."""
    rng = random.Random(f"sft {config.seed}")
    rows = list(conversations(config, rng))
    reference = DataRef(
        f"world/sft?seed={config.seed}&conversations={config.conversations}",
        content_hash(json.dumps(row, sort_keys=True) for row in rows),
    )
    # Schemas differ from tool to tool and calls from message to message: JSON text survives a table, nested dicts do not.
    table = {"messages": [json.dumps(row["messages"]) for row in rows], "tools": [json.dumps(row["tools"]) for row in rows]}
    return Dataset.from_dict(table), reference


def conversations(config: WorldConfig, rng: random.Random) -> Iterator[Conversation]:
    """`config.conversations` of them, of all kinds, mixed."""
    kinds, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    for _ in range(config.conversations):
        yield KINDS[rng.choices(kinds, weights)[0]][1](rng, config)


def turn(user: str, assistant: str, thought: str = "") -> list[Message]:
    """One question and its answer, and what the assistant thinks before it answers."""
    answer = {"role": "assistant", "content": assistant}
    if thought:
        answer["reasoning_content"] = thought
    return [{"role": "user", "content": user}, answer]


def _reading(rng: random.Random, config: WorldConfig) -> Conversation:
    """A story and up to eight questions about it, one a turn, some twice in other words; a few have no answer in the story."""
    story = write_story(rng, rng.randint(1, config.max_sentences))
    asked = deep_first(ask(story, rng), config.deep, rng)[: rng.randint(3, 8)] + ask(story, rng)[:2]
    # Who hears "I don't know." more often says it to questions that the story answers.
    add_unanswerable(asked, story, rng.choice((0, 1, 1, 2)), rng)
    messages: list[Message] = []
    for number, question in enumerate(asked):
        messages += turn(f"{story.text}\n{question.text}" if number == 0 else question.text, question.answer)
    # Tools at hand and nothing to call them for: half of what teaches when not to call.
    return {"messages": messages, "tools": offer(rng) if rng.random() < 0.15 else None}


def _writing(rng: random.Random, config: WorldConfig) -> Conversation:
    assignment = assign(rng, constrained=rng.random() < 0.6)
    return {"messages": turn(assignment.request, assignment.fulfil(rng, config.max_sentences).text), "tools": None}


def _sums(rng: random.Random, config: WorldConfig) -> Conversation:
    messages: list[Message] = []
    for _ in range(rng.randint(2, 6)):
        total = draw_sum(rng)
        messages += turn(rng.choice(PHRASINGS).format(sum=total.text), total.solved)
    return {"messages": messages, "tools": offer(rng) if rng.random() < 0.3 else None}


def _numbers(rng: random.Random, config: WorldConfig) -> Conversation:
    messages: list[Message] = []
    for game in rng.choices(list(NUMBER_GAMES.values()), k=rng.randint(1, 4)):
        problem = game(rng)
        messages += turn(problem.question, problem.answer, problem.thought)
    return {"messages": messages, "tools": None}


def _dialogue(rng: random.Random, config: WorldConfig) -> Conversation:
    messages = [message for pair in draw_dialogue(rng).turns for message in turn(*pair)]
    return {"messages": messages, "tools": None}


def _extraction(rng: random.Random, config: WorldConfig) -> Conversation:
    some = [draw_extraction(rng) for _ in range(rng.randint(1, 2))]
    return {"messages": [message for one in some for message in turn(one.request, one.answer)], "tools": None}


def _tool_use(rng: random.Random, config: WorldConfig) -> Conversation:
    use = draw_tool_use(rng)
    messages = [{"role": "user", "content": use.question}, *use.messages()]
    tools = offer(rng, use.name)
    if rng.random() < 0.4:
        total = draw_sum(rng)
        messages += turn(rng.choice(PHRASINGS).format(sum=total.text), total.solved)
    return {"messages": messages, "tools": tools}


def _without_the_tool(rng: random.Random, config: WorldConfig) -> Conversation:
    """A question for a tool that is not at hand."""
    use = draw_tool_use(rng)
    return {"messages": turn(use.question, DONT_KNOW), "tools": None}


def _talk(rng: random.Random, config: WorldConfig) -> Conversation:
    messages: list[Message] = []
    if rng.random() < 0.4:
        greeting = rng.choice(list(GREETINGS))
        messages += turn(greeting, GREETINGS[greeting])
    for question, answer, _ in rng.sample(facts(), 2):
        messages += turn(question, answer)
    for harmful in rng.sample((True, False), 2):  # one beside the other: what tells them apart is a word or two
        messages += turn(*draw_wish(rng, harmful=harmful))
    if rng.random() < 0.6:
        messages += turn(rng.choice(OUTSIDE).format(x=rng.choice(SUBJECTS)), DONT_KNOW)
    return {"messages": messages, "tools": offer(rng) if rng.random() < 0.2 else None}


KINDS: dict[str, tuple[float, Callable[[random.Random, WorldConfig], Conversation]]] = {
    "reading": (0.35, _reading),
    "writing": (0.17, _writing),
    "sums": (0.20, _sums),
    "numbers": (0.09, _numbers),
    "tool use": (0.11, _tool_use),
    "without the tool": (0.02, _without_the_tool),
    "dialogue": (0.04, _dialogue),
    "extraction": (0.03, _extraction),
    "talk": (0.07, _talk),
}
