"""`lifecycle voice`: fetch the default voices, speak a text into a file, write down what a file says."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def voice() -> None:
    """Hear and speak."""


@voice.command()
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path),
    help="Where the files are kept.  [default: voice in $LIFECYCLE_CACHE, else in data/cache]",
)
def setup(directory: Path | None) -> None:
    """Fetch and verify the files of the default voices; what is there already is kept."""
    from serving.infrastructure.speech.files import set_up, voice_directory

    set_up(voice_directory(directory), click.echo)
    click.echo("Ready: lifecycle voice speak \"Hello.\" --out hello.wav")
