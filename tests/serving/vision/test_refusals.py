"""What cannot be shown, or served, is refused in words."""

from __future__ import annotations

import pytest

from lifecycle.errors import LifecycleError
from serving.application.rendering import RenderChat
from serving.composition import ServingConfig, build_engine
from serving.domain.errors import ContextLengthExceeded, InvalidRequest
from serving.domain.media import Media

from .conftest import CONFIG, chat, picture
from .families import BIDIRECTIONAL, FAMILIES


def test_a_text_that_writes_placeholders_itself(family):
    mark = family.served.tokenizer.mark
    with pytest.raises(InvalidRequest, match="stands for a picture"):
        chat(f"what is {mark}", picture(1)).prompt(family.served)


def test_a_placeholder_without_a_picture_is_a_token_like_any_other(family):
    """Nothing takes its place, and nobody else's step fails."""
    asked = [RenderChat([{"role": "user", "content": family.served.tokenizer.mark * 3}]), chat(picture(1), "?")]
    assert family.answers(*asked)[1] == family.generate(asked[1])


def test_pictures_that_see_each_other_both_ways_cannot_be_packed(tmp_path):
    BIDIRECTIONAL.save(tmp_path)
    with pytest.raises(LifecycleError, match="something else when sequences are packed"):
        build_engine(tmp_path, ServingConfig(**CONFIG))


@pytest.mark.parametrize(("setting", "value"), [("backend", "native"), ("backend", "padded"), ("dtype", "int8")])
def test_other_backends_show_no_pictures(tmp_path, setting, value):
    FAMILIES["idefics3"].save(tmp_path)
    with pytest.raises(LifecycleError, match="sees|pictures"):
        build_engine(tmp_path, ServingConfig(**{**CONFIG, setting: value}))


def test_a_directory_without_an_image_processor(tmp_path):
    FAMILIES["idefics3"].save(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(LifecycleError, match="holds no image processor"):
        build_engine(tmp_path, ServingConfig(**CONFIG))


def test_a_tokenizer_without_the_family_s_placeholder(tmp_path):
    FAMILIES["idefics3"].save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = tmp_path / name
        file.write_text(file.read_text().replace("<image>", "<other>"))
    with pytest.raises(LifecycleError, match="the tokenizer lacks <image>"):
        build_engine(tmp_path, ServingConfig(**CONFIG))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (500, 2), (3, 3), (700, 900)])
def test_a_picture_of_any_size_is_shown_or_refused(family, size):
    asked = chat("what? ", picture(1, *size))
    try:
        asked.prompt(family.served)
    except InvalidRequest as error:
        assert "cannot be shown" in error.message
    else:
        assert family.answers(asked) == [family.generate(asked)]


def test_no_more_frames_are_made_ready_than_can_be_read(idefics, monkeypatch):
    tokenizer, ready = idefics.served.tokenizer, []
    process = tokenizer._process
    monkeypatch.setattr(tokenizer, "_process", lambda images: ready.append(1) or process(images))
    clip = Media("video", "long", picture(1).frames * 128, tuple(map(float, range(128))))
    with pytest.raises(ContextLengthExceeded, match="of 128 pictures and frames"):
        chat("what happens? ", clip).prompt(idefics.served)
    assert len(ready) < 64
