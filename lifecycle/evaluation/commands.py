"""`lifecycle report`: score versions on the frozen evaluation sets; `lifecycle evaluate`: ask a server for likelihoods."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from lifecycle.errors import LifecycleError

ANSWERING = ("import", "pretrain", "sft", "adapter", "rlhf-dpo", "rlhf-kto", "rlhf", "see", "speak", "deploy")
"""Stages whose versions write; others hold a tokenizer, data, a judge, or a part of a model."""


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--skills", help="Comma-separated; all by default.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N tasks of each skill.")
@click.option("--development", is_flag=True, help="Use the development split: for choosing settings, never for reporting.")
@click.option("--samples", type=click.IntRange(min=0), default=0, show_default=True, help="Show the answers to the first N tasks of each skill.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write rows and samples here.")
@click.option("--plot", "plot_file", type=click.Path(dir_okay=False, path_type=Path), help="Also draw them here (.png or .svg).")
def report(
    refs: tuple[str, ...],
    skills: str | None,
    limit: int | None,
    development: bool,
    samples: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Score versions on the frozen evaluation sets; without REF, every trained stage behind "production"."""
    from lifecycle.config import check_output
    from lifecycle.evaluation import report as run
    from lifecycle.evaluation import sets
    from lifecycle.registry import ModelRegistry

    check_output(json_file)
    check_output(plot_file)
    if plot_file is not None and plot_file.suffix not in (".png", ".svg"):
        raise LifecycleError(f'cannot draw into "{plot_file}": name a .png or .svg file with --plot')
    names = sets.skills([name.strip() for name in skills.split(",") if name.strip()]) if skills else None
    registry = ModelRegistry()
    versions = [answering(registry.load(ref)) for ref in refs] or chain(registry)
    say = lambda line: click.echo(line, err=True)  # noqa: E731
    card = run(versions, skills=names, limit=limit, development=development, samples=samples, progress=say)
    click.echo(card.to_markdown(), nl=False)
    if json_file:
        json_file.write_text(card.to_json())
    if plot_file:
        from lifecycle.evaluation.plot import draw

        draw(card).savefig(plot_file, dpi=150)


@click.command()
@click.option("--url", required=True, help="Of a running server, for example http://127.0.0.1:8000.")
@click.option("--model", default="production", show_default=True, help="Which of its models; the key is read from $OPENAI_API_KEY.")
@click.option("--skills", default="reading,dialogue", show_default=True, help="Comma-separated.")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Multiple choice of your own (.jsonl) in place of skills.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N questions of each skill.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the results here.")
def evaluate(url: str, model: str, skills: str, file: Path | None, limit: int | None, json_file: Path | None) -> None:
    """Multiple choice by likelihood through a server: which answer does its model hold to be the likeliest?"""
    from lifecycle.config import check_output, choose
    from lifecycle.evaluation import choices, sets
    from lifecycle.evaluation.endpoint import from_environment

    check_output(json_file)
    if file:
        asked = {file.stem: choices.read(file)[:limit]}
    else:
        names = [choose("skill of multiple choice", name.strip(), dict.fromkeys(choices.SKILLS, name.strip())) for name in skills.split(",")]
        asked = {name: choices.from_tasks(sets.load(name))[:limit] for name in names}
    endpoint = from_environment(url, model)
    results = [choices.evaluate(name, questions, endpoint.log_likelihoods) for name, questions in asked.items()]
    click.echo(choices.to_markdown(results), nl=False)
    if json_file:
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def answering(version):
    """The version; raises LifecycleError for one that does not write."""
    if version.manifest.stage not in ANSWERING:
        raise LifecycleError(f"{version.ref} is of stage \"{version.manifest.stage}\" and answers nothing: name a version of {', '.join(ANSWERING)}")
    return version


def chain(registry, ref: str = "production") -> list:
    """The versions that led to `ref` and can answer, oldest first, their files checked."""
    return [registry.load(version.ref) for version in reversed(registry.lineage(ref)) if version.manifest.stage in ANSWERING]
