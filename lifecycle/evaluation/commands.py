"""`lifecycle report`: score versions on the frozen evaluation sets."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--skills", help="Comma-separated; all by default.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N tasks of each skill.")
@click.option("--development", is_flag=True, help="Use the development split: for choosing settings, never for reporting.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows here.")
@click.option("--plot", "plot_file", type=click.Path(dir_okay=False, path_type=Path), help="Also draw them here (.png or .svg).")
def report(refs: tuple[str, ...], skills: str | None, limit: int | None, development: bool, json_file: Path | None, plot_file: Path | None) -> None:
    """Score versions on the frozen evaluation sets; without REF, every trained stage behind "production"."""
    from lifecycle.evaluation import report as run
    from lifecycle.evaluation import sets
    from lifecycle.registry import ModelRegistry

    names = sets.skills([name.strip() for name in skills.split(",") if name.strip()] if skills else None)
    registry = ModelRegistry()
    versions = [registry.load(ref) for ref in refs] or chain(registry)
    card = run(versions, skills=names, limit=limit, development=development, progress=lambda line: click.echo(line, err=True))
    click.echo(card.to_markdown(), nl=False)
    if json_file:
        json_file.write_text(card.to_json())
    if plot_file:
        from lifecycle.evaluation.plot import draw

        draw(card).savefig(plot_file, dpi=150)


def chain(registry, ref: str = "production") -> list:
    """The versions that led to `ref` and can answer, oldest first."""
    return [version for version in registry.lineage(ref) if version.manifest.stage not in ("tokenizer", "rlhf-pairs", "rlhf-reward")][::-1]
