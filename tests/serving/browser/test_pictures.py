"""Showing a real, small model that sees something, in a real browser."""

from __future__ import annotations

import base64
import json

import pytest
from media.files import clip, pattern, still
from vision.families import FAMILIES

from serving.composition import ServingConfig, build_engine
from serving.infrastructure.catalog import Catalog
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread

from .talking import change, say, until

FILE = """([content, name, type]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const moved = new DataTransfer();
  moved.items.add(new File([bytes], name, { type }));
  return moved;
}"""
KEPT = "Object.values(localStorage).join('')"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A server of a model that sees pictures, and clips as their frames."""
    directory = FAMILIES["smolvlm"].save(tmp_path_factory.mktemp("smolvlm"))
    model = build_engine(directory, ServingConfig(dtype="float32", num_blocks=64), name="eye")
    media, feedback = MediaReader(MediaLimits(media_frames=3)), SqliteFeedback(":memory:")
    app = create_app(Catalog([model]), media=media, feedback=feedback)
    with run_in_thread(app) as server:
        yield server
        app.extensions["serving"].draining.set()
    model.engine.close()


@pytest.fixture
def looking(open_page, seeing):
    page = open_page(seeing.url)
    page.wait_for_selector("#attachments label")
    change(page, max_tokens=4, temperature=0)
    return page


def drop(page, content: bytes, name: str, kind: str, event: str = "drop") -> None:
    moved = page.evaluate_handle(FILE, [base64.b64encode(content).decode(), name, kind])
    if event == "paste":
        page.evaluate_handle(
            "(data) => document.querySelector('#prompt').dispatchEvent(new ClipboardEvent('paste',"
            " { clipboardData: data, bubbles: true, cancelable: true }))",
            moved,
        )
    else:
        page.dispatch_event("#chat", event, {"dataTransfer": moved})


def sent(page, text: str) -> list[dict]:
    """The parts of the last message of the request that saying `text` sends."""
    with page.expect_request("**/v1/chat/completions") as caught:
        say(page, text)
    return json.loads(caught.value.post_data)["messages"][-1]["content"]


def answered(page) -> None:
    page.wait_for_selector(".message.assistant:last-of-type .facts, .failure")
    assert page.locator(".failure").count() == 0, page.locator(".failure").inner_text()


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_picture_is_shown_and_answered(looking, way):
    page, content = looking, still("PNG", pattern())
    if way == "choose":
        page.set_input_files("input[aria-label='Attach image']", {"name": "a.png", "mimeType": "image/png", "buffer": content})
    else:
        drop(page, content, "a.png", "image/png", way)
    page.wait_for_selector("#attached img")
    image, text = sent(page, "What is it?")
    assert text == {"type": "text", "text": "What is it?"}
    assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(content).decode()
    answered(page)
    assert page.locator("#attached *").count() == 0
    until(page, "document.querySelector('.message.user .pictures img').naturalWidth === 48")
    page.reload()
    until(page, "document.querySelector('.message.user .pictures img')?.naturalWidth === 48")


def test_what_was_attached_can_be_removed(looking):
    page = looking
    for name in ("a.png", "b.png"):
        drop(page, still("PNG", pattern()), name, "image/png")
        page.wait_for_selector(f"#attached [aria-label='Remove {name}']")
    assert page.is_enabled("#send")
    for name in ("a.png", "b.png"):
        page.click(f"[aria-label='Remove {name}']")
    assert page.locator("#attached *").count() == 0 and not page.is_enabled("#send")


def test_a_picture_says_enough(looking):
    page = looking
    drop(page, still("PNG", pattern()), "a.png", "image/png")
    page.wait_for_selector("#attached img")
    assert [part["type"] for part in sent(page, "")] == ["image_url"]
    answered(page)


def test_a_large_picture_is_reduced_before_it_is_sent(looking):
    page = looking
    drop(page, still("JPEG", pattern(0, 2048, 1024)), "a.jpg", "image/jpeg")
    page.wait_for_selector("#attached img")
    size = page.locator("#attached img").evaluate("(image) => image.decode().then(() => image.naturalWidth * image.naturalHeight)")
    assert 2**20 * 0.99 < size <= 2**20
    image, _ = sent(page, "What is it?")
    answered(page)


def test_a_clip_is_shown_as_frames(looking):
    page, content = looking, clip("webm", "libvpx")
    drop(page, content, "a.webm", "video/webm")
    page.wait_for_selector("#attached .film img >> nth=4", state="attached")
    shown, _ = sent(page, "What happens?")
    assert shown["video_url"]["url"].endswith(base64.b64encode(content).decode())
    answered(page)
    assert page.locator(".message.user .film img").count() == 5


PIXELS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [...new Set(data.filter((_, at) => at % 4 === 3))].length;
}"""
"""How many different shades an overlay has."""


def test_no_message_goes_without_what_is_still_being_read(looking):
    page = looking
    page.fill("#prompt", "What happens?")
    with page.expect_request("**/v1/chat/completions") as caught:
        drop(page, clip("webm", "libvpx"), "a.webm", "video/webm")
        while not page.locator(".message.user").count():
            page.press("#prompt", "Enter")
    parts = json.loads(caught.value.post_data)["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["video_url", "text"]
    answered(page)


def test_what_is_read_for_another_model_is_let_go(looking):
    page = looking

    def add_a_blind_one(route):
        told = route.fetch().json()
        route.fulfill(json={**told, "data": [*told["data"], {**told["data"][0], "id": "blind", "capabilities": []}]})

    page.route("**/v1/models", add_a_blind_one)
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector("#model option[value=blind]", state="attached")
    page.evaluate("""() => {
      const read = FileReader.prototype.readAsDataURL;
      FileReader.prototype.readAsDataURL = function (file) { window.goOn = () => read.call(this, file); };
    }""")
    drop(page, still("PNG", pattern()), "a.png", "image/png")
    until(page, "Boolean(window.goOn)")
    page.select_option("#model", "blind")
    page.evaluate("() => window.goOn()")
    until(page, "!document.querySelector('#attached').textContent.includes('Reading')")
    assert page.locator("#attached *").count() == 0


def test_the_picture_shows_where_the_model_looked(looking):
    page = looking
    drop(page, still("PNG", pattern()), "a.png", "image/png")
    page.wait_for_selector("#attached img")
    say(page, "What is it?")
    answered(page)
    text = page.locator(".message.assistant .body").inner_text()
    page.click("text=Where it looked")
    page.wait_for_selector(".gaze canvas")
    tokens = page.locator(".gaze .token")
    assert "".join(tokens.all_inner_texts()).strip() == text.strip()
    canvas = page.locator(".gaze canvas")
    until(page, "document.querySelector('.gaze canvas').width > 0")
    assert canvas.evaluate(PIXELS) > 10
    before = canvas.evaluate("(canvas) => canvas.toDataURL()")
    tokens.last.hover()
    assert "of the attention fell on the picture" in page.locator(".gaze [role=status]").inner_text()
    one = canvas.evaluate("(canvas) => canvas.toDataURL()")
    assert one != before and canvas.evaluate(PIXELS) > 10
    page.click("text=Patches and tokens")
    tokens.last.hover()
    assert canvas.evaluate("(canvas) => canvas.toDataURL()") != one
    with page.expect_request("**/v1/chat/attention") as caught:
        page.select_option("[aria-label='Layers']", "2")
    assert json.loads(caught.value.post_data)["layers"] == [2]
    page.click("text=Where it looked")
    assert page.locator(".gaze").count() == 0 and page.locator(".message.assistant .body").inner_text() == text


def test_every_frame_shows_where_the_model_looked(looking):
    page = looking
    drop(page, clip("webm", "libvpx"), "a.webm", "video/webm")
    page.wait_for_selector("#attached .film img", state="attached")
    say(page, "What happens?")
    answered(page)
    page.click("text=Where it looked")
    page.wait_for_selector(".gaze .frame >> nth=2")
    assert page.locator(".gaze .frame img").evaluate_all("(all) => all.every((image) => image.naturalWidth > 0)")


def test_what_is_no_picture_is_refused_in_words(looking):
    page = looking
    drop(page, b"not a picture", "a.png", "image/png")
    page.wait_for_selector("#attached .attached")
    sent(page, "What is it?")
    page.wait_for_selector(".failure code >> text=messages[0].content[0].image_url.url")


def test_a_picture_too_large_to_be_kept_is_told_of(looking):
    page = looking
    page.evaluate("localStorage.setItem('full', 'x'.repeat(5 * 2 ** 20 - 9000))")
    drop(page, still("BMP", pattern(0, 60, 60)), "a.bmp", "image/bmp")
    page.wait_for_selector("#attached img")
    sent(page, "What is it?")
    answered(page)
    assert page.locator(".message.user .pictures img").count() == 1
    page.reload()
    page.wait_for_selector("text=no room to keep what was attached")
    page.wait_for_selector("#examples button", state="attached")  # by then the page knows that answers can be judged
    page.wait_for_selector(".message.assistant >> text=Copy")
    assert page.locator("[aria-label='Good answer']").count() == 0, "what is kept of it would lack the picture"


def test_a_picture_is_taken_with_the_camera(looking):
    page = looking
    page.click("text=Camera")
    until(page, "document.querySelector('#camera video')?.videoWidth > 0")
    page.click("text=Take the picture")
    page.wait_for_selector("#attached img")
    assert page.is_hidden("#camera")
    page.click("text=Camera")
    page.wait_for_selector("#camera video")
    page.keyboard.press("Escape")
    assert page.is_hidden("#camera") and page.locator("#attached img").count() == 1


def test_a_camera_that_was_asked_for_twice_is_put_away_once(looking):
    page = looking
    page.evaluate("""() => {
      window.streams = [];
      const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        window.streams.push(stream);
        return stream;
      };
      const button = [...document.querySelectorAll("#attachments button")].find((one) => one.textContent === "Camera");
      button.click();
      button.click();
    }""")
    until(page, "window.streams.length === 2")
    page.click("#camera >> text=Close")
    open_tracks = "window.streams.flatMap((stream) => stream.getTracks()).filter((track) => track.readyState === 'live').length"
    assert page.evaluate(open_tracks) == 0


def test_nothing_is_taken_before_the_camera_shows_anything(looking):
    page = looking
    page.evaluate("() => { Object.defineProperty(HTMLVideoElement.prototype, 'videoWidth', { get: () => 0 }); }")
    page.click("text=Camera")
    page.click("text=Take the picture")
    page.evaluate("() => new Promise((done) => document.createElement('canvas').toBlob(() => done(null)))")  # as long as a picture takes
    assert page.is_visible("#camera") and page.locator("#attached *").count() == 0


def test_a_model_that_does_not_see_is_offered_nothing(page):
    assert page.locator("#attachments *").count() == 0
    drop(page, still("PNG", pattern()), "a.png", "image/png")
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#attached *").count() == 0
