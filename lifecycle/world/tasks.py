"""Prompts that come with a verifier: the questions of the report card and of reinforcement learning."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef
from lifecycle.world.arithmetic import (
    PHRASINGS,
    Problem,
    draw_comparison,
    draw_counting,
    draw_long_sum,
    draw_sorting,
    draw_sum,
)
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import content_hash
from lifecycle.world.dialogue import draw_dialogue
from lifecycle.world.extraction import draw_extraction
from lifecycle.world.knowledge import facts
from lifecycle.world.questions import ask, ask_unanswerable
from lifecycle.world.smalltalk import GREETINGS, REFUSAL, draw_wish
from lifecycle.world.stories import write_story
from lifecycle.world.tools import draw_tool_use, offer
from lifecycle.world.verifiers import Check
from lifecycle.world.writing import Assignment, assign

if TYPE_CHECKING:
    from datasets import Dataset

RL_SKILLS = ("story_consistency", "constrained_writing")
"""What reinforcement learning asks for: stories alone, for a skill with a phrase that is always right invites hacking."""

Task = dict[str, Any]  # {"skill", "messages", "tools", "check", "chance"}


def verified_prompts(
    config: WorldConfig, skills: Sequence[str] = RL_SKILLS
) -> tuple[Dataset, DataRef]:
    """Prompts for reinforcement learning, in the columns "prompt", "check" (JSON text) and "skill", and the data's id and hash."""
    rng = random.Random(f"tasks {config.seed}")
    rows = []
    for _ in range(config.prompts):
        skill = rng.choice(list(skills))
        messages, _, check, _ = SKILLS[skill](rng, config.max_sentences, False)
        rows.append({"prompt": messages, "check": json.dumps(check), "skill": skill})
    reference = DataRef(
        f"world/tasks?seed={config.seed}&prompts={config.prompts}&skills={'+'.join(skills)}",
        content_hash(json.dumps(row, sort_keys=True) for row in rows),
    )
    from datasets import Dataset

    return Dataset.from_list(rows), reference


def draw_tasks(skill: str, count: int, longest: int, rng: random.Random, *, held_out: bool, without: Container[str] = ()) -> list[Task]:
    """`count` different tasks of one skill, from the held-out combinations and phrasings or from training's.

    No task's `identity` is one of `without`. Raises LifecycleError when there are not that many.
    """
    found: dict[str, Task] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        messages, tools, check, chance = SKILLS[skill](rng, longest, held_out)
        task = {"skill": skill, "messages": messages, "tools": tools, "check": check, "chance": chance}
        if (name := identity(task)) not in without:
            found.setdefault(name, task)
    if len(found) < count:
        raise LifecycleError(f"the world has no {count} different {skill} tasks, only {len(found)}: ask for fewer")
    return list(found.values())


def identity(task: Task) -> str:
    """What makes a task another one than the next: all that is said in it."""
    return json.dumps(task["messages"])


Drawn = tuple[list[dict[str, str]], list | None, Check, float]  # messages, tools, check, chance


def _asked(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _reading(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    """A question whose answer is not the story's only word of its class: one has to look, not only to copy."""
    while True:
        story = write_story(rng, rng.randint(2 if held_out else 1, longest), held_out=held_out)
        for question in ask(story, rng, held_out=held_out):
            if (chance := question.guess(story.text)) < 1:
                return _asked(_about(story.text, question.text)), None, _names(question.key, question.rivals), chance


def _unanswerable(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    story = write_story(rng, rng.randint(2 if held_out else 1, longest), held_out=held_out)
    question = ask_unanswerable(story, rng, held_out=held_out)
    return _asked(_about(story.text, question.text)), None, {"type": "don't know"}, 0.5


def _sums(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    total = draw_sum(rng, held_out=held_out)
    return _asked(rng.choice(PHRASINGS).format(sum=total.text)), None, {"type": "number", "value": total.result}, 1 / 199


def _tool_call(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    use = draw_tool_use(rng, held_out=held_out)
    return _asked(use.question), offer(rng, use.name), {"type": "call", "name": use.name, "arguments": use.arguments}, 0.0


def _needless_call(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    kind = rng.choice(("reading", "sum", "fact", "greeting") if rng.random() < 0.3 else ("reading", "sum"))
    if kind == "reading":
        messages = _reading(rng, longest, held_out)[0]
    elif kind == "sum":
        messages = _sums(rng, longest, held_out)[0]
    else:
        messages = _asked(rng.choice([question for question, _, _ in facts()] if kind == "fact" else list(GREETINGS)))
    return messages, offer(rng), {"type": "any call"}, 0.5


def _story_consistency(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    assignment = assign(rng, constrained=False, held_out=held_out)
    return _asked(assignment.request), None, _story(assignment), 0.0


def _constrained_writing(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    assignment = assign(rng, constrained=True, held_out=held_out)
    return _asked(assignment.request), None, _story(assignment), 0.0


def _ordering(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    comparing = rng.random() < 0.5
    problem = (draw_comparison if comparing else draw_sorting)(rng, held_out=held_out)
    return _asked(problem.question), None, _exactly(problem), 0.5 if comparing else 1 / 6


def _thinking(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    counting = rng.random() < 0.5
    problem = (draw_counting if counting else draw_long_sum)(rng, held_out=held_out)
    check = _exactly(problem) if counting else {"type": "number", "value": int(problem.key)}
    return _asked(problem.question), None, check, 1 / 7 if counting else 1 / 199


def _extraction(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    extraction = draw_extraction(rng, held_out=held_out)
    return _asked(extraction.request), None, {"type": "json", "value": extraction.facts}, 0.0


def _dialogue(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    dialogue = draw_dialogue(rng, held_out=held_out)
    messages = [message for turn in dialogue.turns[:-1] for message in _turn(*turn)]
    told = " ".join(message["content"] for message in messages)
    chance = 1 / len(set(re.findall(r"\w+", told)) & {dialogue.key, *dialogue.rivals})
    return [*messages, *_asked(dialogue.turns[-1][0])], None, _names(dialogue.key, dialogue.rivals), chance


def _refusal(rng: random.Random, longest: int, held_out: bool) -> Drawn:
    """To refuse what does harm, and to answer what sounds like it and does none."""
    wish, answer = draw_wish(rng, harmful=rng.random() < 0.5, held_out=held_out)
    return _asked(wish), None, {"type": "text", "text": answer.rstrip(".")}, 0.5 if answer == REFUSAL else 0.0


def _turn(user: str, assistant: str) -> list[dict[str, str]]:
    return [*_asked(user), {"role": "assistant", "content": assistant}]


def _exactly(problem: Problem) -> Check:
    return {"type": "text", "text": problem.key}


def _about(story: str, question: str) -> str:
    return f"{story}\n{question}"


def _names(key: str, rivals: Sequence[str]) -> Check:
    return {"type": "names", "key": key, "rivals": list(rivals)}


def _story(assignment: Assignment) -> Check:
    check = {"type": "story", "words": list(assignment.words)}
    return {**check, "ending": assignment.ending} if assignment.ending else check


SKILLS: dict[str, Callable[[random.Random, int, bool], Drawn]] = {
    "story_consistency": _story_consistency,
    "reading": _reading,
    "sums": _sums,
    "tool_call": _tool_call,
    "needless_call": _needless_call,
    "constrained_writing": _constrained_writing,
    "unanswerable": _unanswerable,
    "ordering": _ordering,
    "thinking": _thinking,
    "extraction": _extraction,
    "dialogue": _dialogue,
    "refusal": _refusal,
}
