"""What a version that sees answers about the frozen pictures, and what seeing has cost its texts.

    lifecycle see --preset tiny
    python benchmarks/seeing.py [REF]      # by default see@latest; writes benchmarks/seeing.{json,md} and a table in the README

Every question is asked twice, once with the picture and once with a grey one: what is answered then is known without looking.
The skills of text are those of the report card, of the version and of the language model that it was made from.
"""

from __future__ import annotations

import sys

from results import markdown, publish, show_in_readme

from lifecycle.evaluation.card import report, seeing_rows
from lifecycle.registry import ModelRegistry


def percent(value: float) -> str:
    return f"{value:.0%}"


def main(ref: str = "see@latest") -> None:
    registry = ModelRegistry()
    version = registry.load(ref)
    parent, encoder = (registry.load(one.ref) for one in version.manifest.parents)
    rows = {row.skill: row for row in seeing_rows(version)}
    sights = [
        {
            "set": name,
            "with the picture": percent(row.value),
            "95%": f"{row.low:.0%} to {row.high:.0%}",
            "with a grey one": percent(rows[f"{name} (blank)"].value),
            "chance": percent(row.chance),
            "tasks": row.n,
        }
        for name, row in rows.items()
        if not name.endswith("(blank)")
    ]
    skills = list(report([parent], limit=1).skills())
    card = report([parent, version], skills=skills)
    texts = [
        {"skill": skill, **{one: f"{card.of(one)[skill].value:.0%}" for one in card.versions()}} for skill in skills
    ]
    cost = {one.ref: one.manifest.cost.get("cpu_seconds") for one in (encoder, version)}
    table = (
        f"{markdown(sights)}\n\nText, {card.rows[0].n} tasks a skill:\n\n{markdown(texts)}\n\n"
        f"Training took {sum(cost.values()):.0f} seconds of CPU time: {', '.join(f'{name} {seconds:.0f}' for name, seconds in cost.items())}. "
        f"Preset `{version.manifest.preset}`, seed {version.manifest.seed}.\n"
    )
    figures = {"sights": sights, "texts": texts, "cpu_seconds": cost, "config": version.manifest.config}
    publish("seeing", figures, "Learning to see", table)
    show_in_readme("seeing", "seeing", f"{markdown(sights)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
