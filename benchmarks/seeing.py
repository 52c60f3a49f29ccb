"""What a version that sees answers about the frozen pictures, and what seeing has cost its texts.

    lifecycle see --preset tiny
    python benchmarks/seeing.py [REF]      # by default see@latest

Writes benchmarks/seeing.{json,md} for the preset `tiny` and benchmarks/seeing_PRESET.{json,md} for another one, the README's table of all that were
measured, and a sheet of pictures with the version's answers, docs/images/seeing.webp.

Every question is asked twice, once with the picture and once with a grey one: what is answered then is known without looking.
The skills of text are those of the report card, of the version and of the language model that it was made from. Some tasks are also asked as anybody
would ask them: by the official OpenAI client, of `lifecycle serve`, with the picture or the clip as a file and the answer as a stream.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
from PIL import Image, ImageDraw
from results import HERE, markdown, of_preset, publish, show_in_readme

from lifecycle.evaluation.card import BLANK, report, seeing_rows
from lifecycle.evaluation.seeing import SeeingAnswerer
from lifecycle.evaluation.sights import Sight, load
from lifecycle.registry import ModelRegistry
from lifecycle.see.config import PRESETS
from lifecycle.world.sights import SKILLS, correct
from lifecycle.world.sights.films import encode

SHEET = Path(__file__).parents[1] / "docs" / "images" / "seeing.webp"
SIDE, LINES = 160, 62  # pixels of a picture in the sheet, and of what is said under it
A_SKILL = 2  # pictures of it in the sheet
STREAMED = {"object": 50, "colour": 50, "video_direction": 50}  # tasks that the official client asks


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
            "with a grey one": percent(rows[name + BLANK].value),
            "chance": percent(row.chance),
            "tasks": row.n,
        }
        for name, row in rows.items()
        if not name.endswith(BLANK)
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
    streamed = streamed_shares(registry, version.ref)
    table += f"\nAsked by the official OpenAI client, the answers streamed:\n\n{markdown(streamed)}\n"
    figures = {"sights": sights, "texts": texts, "streamed": streamed, "cpu_seconds": cost, "config": version.manifest.config}
    publish("seeing", figures, f"Learning to see: `{version.manifest.preset}`", table, HERE / f"{of_preset('seeing', version.manifest.preset)}.json")
    show_in_readme("seeing", "seeing", f"{markdown(side_by_side())}\n")
    tasks = [task for skill in SKILLS for task in load(skill, A_SKILL)]
    answered(tasks, SeeingAnswerer(version.path).answer(tasks)).save(SHEET, quality=80, method=6)


def side_by_side() -> list[dict[str, str]]:
    """The sets, what each preset that was measured reaches in them, what the last of them knows without looking, and what guessing reaches."""
    files = {preset: HERE / f"{of_preset('seeing', preset)}.json" for preset in PRESETS}
    measured = {preset: {row["set"]: row for row in json.loads(file.read_text())["sights"]} for preset, file in files.items() if file.exists()}
    preset, last = list(measured.items())[-1]
    return [
        {"set": one}
        | {f"`{name}`": f"{rows[one]['with the picture']} ({rows[one]['95%']})" for name, rows in measured.items()}
        | {f"`{preset}` with a grey one": row["with a grey one"], "chance": row["chance"], "tasks": row["tasks"]}
        for one, row in last.items()
    ]


def streamed_shares(registry: ModelRegistry, ref: str) -> list[dict[str, str]]:
    """How many answers are right that `lifecycle serve` streams to the official client."""
    rows = []
    with serving(registry, ref) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        for name, number in STREAMED.items():
            tasks = load(name, number)
            right = sum(correct(task.question, streamed(client, ref, task)) for task in tasks)
            rows.append({"set": name, "file": "PNG" if len(tasks[0].pictures) == 1 else "mp4", "right": f"{right} of {number}"})
    return rows


def streamed(client: openai.OpenAI, ref: str, task: Sight) -> str:
    """What the model says to a picture, or to a clip as a film."""
    if len(task.pictures) == 1:
        file = io.BytesIO()
        Image.fromarray(task.pictures[0]).save(file, "PNG")
        shown = {"type": "image_url", "image_url": {"url": address(file.getvalue(), "image/png")}}
    else:
        shown = {"type": "video_url", "video_url": {"url": address(encode(task.pictures), "video/mp4")}}
    turn = {"role": "user", "content": [shown, {"type": "text", "text": task.question.text}]}
    pieces = client.chat.completions.create(model=ref, messages=[turn], max_tokens=24, temperature=0, stream=True)
    return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices).strip()


def address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@contextmanager
def serving(registry: ModelRegistry, ref: str) -> Iterator[str]:
    """A server of that version; its address."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "lifecycle.cli", "serve", ref, "--port", "0", "--feedback", str(Path(place, "feedback.sqlite"))]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "LIFECYCLE_REGISTRY": str(registry.root), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        try:
            yield re.search(r"at (http://\S+)", process.stdout.readline())[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def answered(tasks: list[Sight], answers: list[str], columns: int = 6) -> Image.Image:
    """The tasks' pictures in rows, below each the question and the answer, in red where it is wrong."""
    sheet = Image.new("RGB", (columns * SIDE, -(-len(tasks) // columns) * (SIDE + LINES)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (task, answer) in enumerate(zip(tasks, answers, strict=True)):
        left, top = number % columns * SIDE, number // columns * (SIDE + LINES)
        sheet.paste(Image.fromarray(task.pictures[0]).resize((SIDE - 4, SIDE - 4), Image.Resampling.LANCZOS), (left + 2, top))
        asked, said = textwrap.wrap(task.question.text, 27), textwrap.wrap(answer, 27)
        for line, text in enumerate((asked + said)[:4]):
            ink = "grey" if line < len(asked) else "black" if correct(task.question, answer) else "firebrick"
            pen.text((left + 4, top + SIDE - 1 + 14 * line), text, fill=ink)
    return sheet


if __name__ == "__main__":
    main(*sys.argv[1:])
