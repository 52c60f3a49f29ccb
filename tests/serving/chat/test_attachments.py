"""Showing a real, small model that sees something, from the terminal."""

from pathlib import Path

import pytest
from media.files import CLIPS, STILLS
from vision.families import FAMILIES

from lifecycle.errors import LifecycleError
from serving.chat.attachments import part_of
from serving.chat.client import ChatClient, Refused
from serving.chat.conversation import Conversation
from serving.chat.terminal import Terminal
from serving.composition import ServingConfig, build_engine
from serving.infrastructure.catalog import Catalog
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = FAMILIES["smolvlm"].save(tmp_path_factory.mktemp("smolvlm"))
    model = build_engine(directory, ServingConfig(dtype="float32", num_blocks=64), name="eye")
    with run_in_thread(create_app(Catalog([model]), media=MediaReader(MediaLimits(media_frames=2)))) as server:
        yield server
    model.engine.close()


@pytest.fixture
def conversation(server):
    return Conversation(ChatClient(server.url), "eye", {"max_tokens": 3})


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.png").write_bytes(STILLS["PNG"]())
    (tmp_path / "b.mp4").write_bytes(CLIPS["mp4"]())
    (tmp_path / "c.png").write_bytes(b"no picture")
    return tmp_path


def test_what_is_attached_goes_with_what_is_said_next(conversation, files, capsys):
    terminal = Terminal(conversation)
    for line in (f"/attach {files}/a.png", f"/attach {files}/b.mp4", "What is it?", "And now?", f"/save {files}/talk.jsonl"):
        terminal.take(line)
    shown, *_, later, _ = [message["content"] for message in conversation.messages]
    assert [part["type"] for part in shown] == ["image_url", "video_url", "text"]
    assert later == "And now?" and not conversation.attached
    assert "2 attached" in capsys.readouterr().err and not (files / "talk.jsonl").exists()


def test_what_is_refused_stays_attached_and_unsaid(conversation, files):
    conversation.attached.append(part_of(files / "c.png"))
    with pytest.raises(Refused, match="none of the formats"):
        conversation.ask("What is it?", print, print)
    assert conversation.attached and not conversation.messages


def test_what_is_no_picture_is_named():
    for name, words in (("a.txt", "a .png"), ("missing.png", "cannot read missing.png")):
        with pytest.raises(LifecycleError, match=words):
            part_of(Path(name))
