"""Pictures and clips in requests: they reach the model in their order, or the field that holds them is named."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from media.files import CLIPS, STILLS, clip, data_url, pattern, still
from scripted_engine import Catalog, scripted_model

from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader
from serving.presentation.app import create_app
from serving.presentation.response_record import ResponseShelf
from serving.presentation.state import LARGE_BODIES, HttpConfig

PICTURE = {"type": "image_url", "image_url": {"url": data_url(STILLS["PNG"]())}}
TEXT = {"type": "text", "text": "What is it?"}
ROUTES = ("/v1/chat/completions", "/v1/chat/render", "/tokenize")


class Seeing:
    """A server of one model that sees, and what its template and its eye were given."""

    def __init__(self, sees=("image", "video"), limits: MediaLimits | None = None, http: HttpConfig | None = None) -> None:
        self.model = replace(scripted_model("yes"), sees=frozenset(sees))
        self.media, self.messages = [], []
        tokenizer = self.model.tokenizer
        render, place = tokenizer.render_text, tokenizer.place
        tokenizer.render_text = lambda messages, *rest, **more: self.messages.append(messages) or render(
            messages, *rest, **more
        )
        tokenizer.place = lambda text, media: self.media.append(media) or place(text, media)
        app = create_app(Catalog(self.model), http, media=MediaReader(limits or MediaLimits()))
        self.client = app.test_client()

    def chat(self, *parts, route=ROUTES[0], role="user", **fields):
        body = {"messages": [{"role": "system", "content": "be kind"}, {"role": role, "content": list(parts)}], **fields}
        return self.client.post(route, json=body)

    def refuses(self, part, status: int, field: str, words: str) -> None:
        """And answers the next request as if nothing had happened."""
        answer = self.chat(TEXT, part)
        error = answer.json["error"]
        assert (answer.status_code, error["param"]) == (status, f"messages[1].content[1].{field}"), error
        assert words in error["message"] and len(error["message"]) < 400
        assert not self.model.engine.requests, "the engine heard of it"
        assert self.chat(TEXT).status_code == 200
        self.model.engine.requests.clear()


def picture(data: bytes, **fields) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(data), **fields}}


def video(data: bytes) -> dict:
    return {"type": "video_url", "video_url": {"url": data_url(data, "video/mp4")}}


def test_a_model_of_texts_looks_nowhere():
    server = Seeing(sees=())
    for part, param in ((PICTURE, "messages[1].content[0].image_url.url"), (TEXT, "model")):
        answer = server.chat(part, route="/v1/chat/attention", answer="yes")
        assert (answer.status_code, answer.json["error"]["param"]) == (400, param), answer.text


def test_a_sound_beside_the_picture_that_is_looked_at_needs_ears():
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    answer = Seeing().chat(PICTURE, sound, route="/v1/chat/attention", answer="yes")
    assert (answer.status_code, answer.json["error"]["type"]) == (501, "not_implemented") and "hears" in answer.json["error"]["message"]


def test_parts_keep_their_order_and_places():
    server = Seeing()
    first, second = still("PNG", pattern(1)), still("PNG", pattern(2))
    answer = server.chat(picture(first), TEXT, video(CLIPS["gif"]()), picture(second), TEXT, picture(first))
    assert answer.status_code == 200, answer.text
    said = {"type": "text", "text": TEXT["text"]}
    image, moving = {"type": "image"}, {"type": "video"}
    assert server.messages[-1] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [image, said, moving, image, said, image]},
    ]
    (media,) = server.media
    assert [one.kind for one in media] == ["image", "video", "image", "image"]
    assert (media[0].frames[0] == pattern(1)).all() and (media[2].frames[0] == pattern(2)).all()
    assert media[0].digest == media[3].digest != media[2].digest


@pytest.mark.parametrize("route", ROUTES)
def test_what_renders_a_chat_takes_pictures_too(route):
    server = Seeing()
    assert server.chat(TEXT, PICTURE, route=route).status_code == 200
    assert len(server.media[0]) == 1


def test_parts_of_text_alone_stay_one_string():
    server = Seeing()
    assert server.chat(TEXT, TEXT).status_code == 200
    assert server.messages[-1][1]["content"] == TEXT["text"] * 2


def test_a_clip_may_be_written_as_data():
    server = Seeing()
    data = CLIPS["mp4"]()
    raw = data_url(data).partition(",")[2]
    part = {"type": "input_video", "input_video": {"data": raw, "format": "mp4"}}
    assert server.chat(part, video(data)).status_code == 200
    first, second = server.media[0]
    assert first.digest == second.digest


def test_low_detail_is_fewer_pixels():
    server = Seeing(limits=MediaLimits(media_kept_pixels=400))
    data = STILLS["PNG"]()
    for detail in ("auto", "high", "low"):
        server.chat(picture(data, detail=detail))
    auto, high, low = (media[0].frames[0] for media in server.media)
    assert auto.shape == high.shape and 3 * low.size < high.size <= 3 * 400


@pytest.mark.parametrize("part", [PICTURE, video(b"anything")])
def test_a_model_that_does_not_see_says_so(part):
    server = Seeing(sees=())
    field = "image_url.url" if part is PICTURE else "video_url.url"
    server.refuses(part, 400, field, 'the model "parrot" does not see any: leave it out, or serve one of stage see')
    assert not server.media


def test_a_model_that_sees_pictures_only_is_shown_no_clip():
    server = Seeing(sees=("image",))
    server.refuses(video(b"anything"), 400, "video_url.url", "is a clip")
    assert server.chat(PICTURE).status_code == 200


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool"])
def test_only_users_show_pictures(role):
    server = Seeing()
    extra = {"tool_call_id": "x"} if role == "tool" else {}
    answer = server.client.post(
        ROUTES[0], json={"messages": [{"role": role, "content": [TEXT, PICTURE], **extra}]}
    )
    assert answer.status_code == 400 and answer.json["error"]["param"] == "messages[0].content[1].type"
    assert "only messages of users" in answer.json["error"]["message"]


URLS = {
    "data:image/png;base64,@@@@": (400, "is not base64"),
    "data:image/png;base64,aGVsbG8": (400, "is not base64"),
    "data:image/png,hello": (400, "must be written as data:TYPE;base64,DATA"),
    "data:image/png;base64,": (400, "is empty"),
    data_url(b"hello"): (415, "none of the formats read here"),
    data_url(CLIPS["mp4"]()): (415, "is a clip"),
    data_url(STILLS["PNG"]()[:100]): (400, "damaged"),
    data_url(b"\x89PNG\r\n\x1a\nno picture at all"): (400, "damaged"),
    "file:///etc/passwd": (400, "must begin with data:, http: or https:"),
    "ftp://example.org/a.png": (400, "must begin with"),
    "/etc/passwd": (400, "must begin with"),
    "https://example.org/a.png": (400, "this server fetches nothing"),
}


@pytest.mark.parametrize("url", URLS, ids=lambda url: url[:40])
def test_what_is_no_picture_is_refused_with_its_place(url):
    status, words = URLS[url]
    Seeing().refuses({"type": "image_url", "image_url": {"url": url}}, status, "image_url.url", words)


def test_limits_hold():
    server = Seeing(limits=MediaLimits(media_parts=2, media_part_bytes=5000, media_request_bytes=6000, media_pixels=2000))
    small, large = still("PNG", pattern(0, 8, 8)), bytes(5001)
    assert server.chat(picture(small), picture(small)).status_code == 200
    server.model.engine.requests.clear()
    answer = server.chat(*[picture(small)] * 3)
    assert (answer.status_code, answer.json["error"]["param"]) == (413, "messages[1].content[2].image_url.url")
    server.refuses(picture(large), 413, "image_url.url", "more than 5000 bytes")
    server.refuses(picture(still("PNG", pattern(0, 80, 80))), 413, "image_url.url", "80 x 80 pixels")
    padded = still("BMP", pattern(0, 36, 36))
    answer = server.chat(picture(padded), picture(padded))
    assert (answer.status_code, answer.json["error"]["param"]) == (413, "messages[1].content[1].image_url.url")


def test_a_body_may_be_longer_where_it_can_show_pictures():
    server = Seeing(http=HttpConfig(max_body_bytes=1000, media_body_bytes=20000))
    assert server.chat(picture(still("BMP", pattern(0, 40, 40)))).status_code == 200
    assert server.chat({"type": "text", "text": "x" * 22000}).status_code == 413
    assert server.client.post("/v1/completions", json={"prompt": "x" * 2000}).status_code == 413


def test_without_the_extra_the_command_to_type_is_named(monkeypatch):
    server = Seeing()
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    for name in [name for name in sys.modules if name in ("PIL", "av")]:
        monkeypatch.delitem(sys.modules, name)
    answer = server.chat(PICTURE)
    assert answer.status_code == 501 and "pip install -e '.[vision]'" in answer.json["error"]["message"]


def test_a_server_that_decodes_nothing_says_so():
    model = replace(scripted_model("yes"), sees=frozenset({"image"}))
    answer = create_app(Catalog(model)).test_client().post(
        ROUTES[0], json={"messages": [{"role": "user", "content": [PICTURE]}]}
    )
    assert answer.status_code == 501


def test_responses_show_pictures_and_go_on_from_them():
    server = Seeing()
    url = PICTURE["image_url"]["url"]
    shown = [{"type": "input_text", "text": "Look:"}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    moving = [{"type": "input_video", "video_url": data_url(CLIPS["webm"]())}]
    first = server.client.post("/v1/responses", json={"input": [{"role": "user", "content": shown}]})
    assert first.status_code == 200, first.text
    more = {"input": [{"role": "user", "content": moving}], "previous_response_id": first.json["id"]}
    assert server.client.post("/v1/responses", json=more).status_code == 200
    assert [one.kind for one in server.media[1]] == ["image", "video"]
    assert server.media[1][0].digest == server.media[0][0].digest
    assert server.messages[-1][0]["content"] == [{"type": "text", "text": "Look:"}, {"type": "image"}]
    broken = {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///x"}]}]}
    answer = server.client.post("/v1/responses", json=broken)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "input[0].content[0].image_url")
    spoken = {"input": [{"role": "assistant", "content": shown}]}
    assert server.client.post("/v1/responses", json=spoken).json["error"]["param"] == "input[0].content"


def test_only_so_many_large_bodies_are_read_at_a_time(monkeypatch):
    monkeypatch.setattr("serving.presentation.seeing.PATIENCE", 0.01)
    server = Seeing(http=HttpConfig(max_body_bytes=1000))
    state = server.client.application.extensions["serving"]
    large = picture(still("BMP", pattern(0, 40, 40)))
    for _ in range(LARGE_BODIES):
        state.large_bodies.acquire()
    refused = server.chat(large)
    assert refused.status_code == 429 and refused.headers["Retry-After"]
    assert server.chat(TEXT).status_code == 200, "a short one needs no place"
    state.large_bodies.release()
    for _ in range(3):
        assert server.chat(large).status_code == 200
        assert server.chat(picture(bytes(3000))).status_code == 415


def test_pictures_that_are_being_answered_fill_the_shelf_so_far_and_no_further(monkeypatch):
    server = Seeing()
    server.model.engine.hang = True
    monkeypatch.setattr("serving.presentation.responses.ResponseShelf", lambda: ResponseShelf(characters=10_000))
    server.client = create_app(Catalog(server.model), media=MediaReader(MediaLimits())).test_client()
    url = data_url(still("BMP", pattern(0, 40, 40)))
    body = {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}], "background": True}
    codes = [server.client.post("/v1/responses", json=body).status_code for _ in range(9)]
    kept = codes.count(200)
    assert codes == [200] * kept + [429] * (9 - kept) and 0 < kept < 9
    assert len(server.model.engine.cancelled) == 9 - kept


def test_a_model_says_what_it_sees():
    (model,) = Seeing().client.get("/v1/models").json["data"]
    assert model["capabilities"] == ["image", "video"]
    (model,) = Seeing(sees=()).client.get("/v1/models").json["data"]
    assert model["capabilities"] == []


def test_a_clip_and_its_limit_of_frames():
    server = Seeing(limits=MediaLimits(media_frames=3))
    assert server.chat(video(clip("mp4", "libx264", 7))).status_code == 200
    assert len(server.media[0][0].frames) == 3
