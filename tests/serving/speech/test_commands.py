"""`lifecycle voice` speaks into files and writes down what files say."""

from click.testing import CliRunner

from serving.voice_commands import voice
from tests.serving.speech.voices import BUILD, voice_config


def run(*words: str):
    return CliRunner().invoke(voice, words, catch_exceptions=True)


def test_what_is_spoken_into_a_file_is_written_down(tmp_path):
    voice_config()
    file = tmp_path / "said.flac"
    spoken = run("speak", "The door is open.", "--out", str(file), "--dir", str(BUILD))
    assert spoken.exit_code == 0 and file.stat().st_size > 10_000, spoken.output
    heard = run("transcribe", str(file), "--times", "--dir", str(BUILD))
    assert heard.exit_code == 0 and heard.output.split(maxsplit=1)[1].strip(" .\n") == "The door is open", heard.output


def test_what_cannot_be_done_is_one_line(tmp_path):
    for words, told in (
        (("speak", "Hello.", "--out", "a.midi"), "end its name with one of .wav, .pcm, .mp3"),
        (("speak", "Hello.", "--dir", str(tmp_path), "--out", str(tmp_path / "a.wav")), "run lifecycle voice setup"),
        (("transcribe", __file__), "none of the kinds of sound"),
    ):
        result = run(*words)
        assert result.exit_code and told in str(result.exception), result.output


