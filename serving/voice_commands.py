"""`lifecycle voice`: fetch the default voices, speak a text into a file, write down what a file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from serving.application.speech import Audio
    from serving.application.voice import Voice

DIRECTORY = click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path),
    help="Where the files are kept.  [default: voice in $LIFECYCLE_CACHE, else in data/cache]",
)


@click.group()
def voice() -> None:
    """Hear and speak."""


@voice.command()
@DIRECTORY
def setup(directory: Path | None) -> None:
    """Fetch and verify the files of the default voices; what is there already is kept."""
    from serving.infrastructure.speech.files import set_up, voice_directory

    set_up(voice_directory(directory), click.echo)
    click.echo("Ready: lifecycle voice speak \"Hello.\" --out hello.wav")


@voice.command()
@click.argument("text")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="said.wav", show_default=True, help="A .wav, .mp3, .opus, .flac or .aac file.")
@click.option("--voice", "name", help="For example af_heart, am_michael, or alloy.")
@click.option("--speed", default=1.0, show_default=True, help="0.25 to 4.")
@click.option("--engine", default="kokoro", show_default=True, help="kokoro, flite, espeak-ng, or a model of transformers.")
@DIRECTORY
def speak(text: str, out: Path, name: str | None, speed: float, engine: str, directory: Path | None) -> None:
    """Speak TEXT into a file."""
    from serving.domain.errors import ServingError
    from serving.infrastructure.speech.encoding import FORMATS

    form = out.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise LifecycleError(f'cannot write "{out.name}": end its name with one of {", ".join(f".{one}" for one in FORMATS)}')
    try:
        voices = _voices(directory, text_to_speech=engine)
        pieces = [chunk.audio for chunk in voices.speak(text, name, speed)]
        if not pieces:
            raise LifecycleError("there is no word in it that could be spoken")
        rate = voices.engines.to_speech().rate
        out.write_bytes(b"".join(voices.write(form, rate, pieces, sum(len(piece.samples) for piece in pieces))))
    except ServingError as error:
        raise LifecycleError(error.message) from None
    except OSError as error:
        raise LifecycleError(f"cannot write {out}: {error.strerror}. Choose another file with --out") from None
    click.echo(f"{out}: {sum(piece.seconds for piece in pieces):.1f} seconds")


@voice.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--times", is_flag=True, help="When each stretch of speech begins, too.")
@click.option("--engine", default="moonshine", show_default=True, help="moonshine, pocketsphinx, or a model of transformers.")
@DIRECTORY
def transcribe(file: Path, times: bool, engine: str, directory: Path | None) -> None:
    """Write down what FILE says."""
    from serving.domain.errors import ServingError

    try:
        voices = _voices(directory, speech_to_text=engine)
        audio: Audio = voices.open(file.read_bytes(), file.name)
        for found in voices.hear(audio):
            for segment in found:
                click.echo(f"{segment.start:8.2f}  {segment.text}" if times else segment.text)
    except ServingError as error:
        raise LifecycleError(error.message) from None


def _voices(directory: Path | None, **chosen: str) -> Voice:
    from serving.infrastructure.config import ServingConfig
    from serving.infrastructure.speech.voice import build_voice

    return build_voice(ServingConfig(voice_dir=str(directory or ""), **chosen))
