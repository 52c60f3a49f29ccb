"""`lifecycle feedback`: from what people thought of answers to data that the next model learns from."""

from __future__ import annotations

from pathlib import Path

import click

from lifecycle.errors import LifecycleError


@click.group()
def feedback() -> None:
    """Use the thumbs and comparisons that a server has collected."""


@feedback.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .jsonl file to write.")
@click.option(
    "--feedback",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the feedback is kept.  [default: feedback.sqlite in the registry]",
)
@click.option("--tenant", metavar="NAME", help="Only what this tenant said.")
def export(out: Path, source: Path | None, tenant: str | None) -> None:
    """Write preference pairs for lifecycle rlhf --preferences FILE.jsonl. A server may go on collecting meanwhile."""
    from lifecycle.feedback.judgements import preferences
    from lifecycle.registry import ModelRegistry
    from serving.infrastructure.feedback_sqlite import FILE_NAME, SqliteFeedback

    path = source or ModelRegistry().root / FILE_NAME
    if not path.is_file():
        raise LifecycleError(f"{path} does not exist: name the file of a server with --feedback FILE")
    store = SqliteFeedback(path)
    store.check()
    pairs = preferences(store.all(tenant=tenant))
    if not pairs.rows:
        raise LifecycleError(
            f"{path} holds no preference yet: it takes a comparison with a winner, or thumbs up and down for answers "
            "to the same messages"
        )
    try:
        out.write_text("".join(pairs.lines()), encoding="utf-8")
    except OSError as error:
        raise LifecycleError(f"cannot write {out}: {error.strerror}") from None
    prompts = len({str(row["prompt"]) for row in pairs.rows})
    click.echo(f"{len(pairs.rows)} pairs for {prompts} prompts in {out}")
    if pairs.skipped:
        click.echo(f"{pairs.skipped} prompts left out: they are more than text", err=True)
    if prompts < 2:
        click.echo("lifecycle rlhf needs at least two prompts: one to learn from and one to hold out", err=True)
