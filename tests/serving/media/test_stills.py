"""Pictures: the same whatever the format, upright, on white, no larger than needed."""

import numpy as np
import pytest
from PIL import Image

from serving.domain.errors import InvalidRequest, MediaTooLarge, UnsupportedMedia
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader

from .files import HEIGHT, STILLS, WIDTH, animation, clip, pattern, source, still

READ = MediaReader(MediaLimits())


def see(data: bytes, **fields) -> np.ndarray:
    (media,) = READ([source("image", data, **fields)])
    (frame,) = media.frames
    assert media.kind == "image" and media.times == (0.0,)
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    return frame


@pytest.mark.parametrize("name", STILLS)
def test_every_format_shows_the_same_picture(name):
    frame = see(STILLS[name]())
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(frame.astype(int) - pattern()).mean() < (6 if name in ("JPEG", "GIF") else 0.5)


def test_equal_pictures_have_equal_digests_and_others_do_not():
    digests = [READ([source("image", STILLS[name]())])[0].digest for name in ("PNG", "BMP", "WEBP")]
    assert len(set(digests)) == 1
    (other,) = READ([source("image", still("PNG", pattern(1)))])
    (turned,) = READ([source("image", still("PNG", pattern().reshape(WIDTH, HEIGHT, 3)))])
    assert len({digests[0], other.digest, turned.digest}) == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_shown_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    undone = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }
    assert (see(still("PNG", exif=exif)) == undone[orientation](pattern())).all()


def test_nonsense_beside_a_picture_is_ignored():
    assert (see(still("PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")) == pattern()).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_shines_through_is_white(mode):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:, 3] = 255
    image = Image.fromarray(pixels)
    options = {}
    if mode == "P":
        image, options = Image.fromarray(pixels[:, :, 3] // 255).convert("P"), {"transparency": 0}
        image.putpalette([0, 0, 0] * 2)
    elif mode != "RGBA":
        image = image.convert("LA").convert(mode)
    frame = see(still("PNG", image, **options))
    assert (frame[:, :4] == 255).all() and (frame[:, 4:] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    else:
        image = Image.new("RGB", (4, 4), (255, 255, 255) if mode == "1" else (128, 128, 128)).convert(mode)
    frame = see(still("JPEG" if mode == "CMYK" else "PNG", image))
    assert frame.shape == (4, 4, 3) and abs(int(frame.mean()) - (255 if mode == "1" else 128)) <= 2


def test_a_picture_larger_than_needed_is_reduced():
    read = MediaReader(MediaLimits(media_kept_pixels=1000))
    for name in STILLS:
        data = still(name, pattern(0, 200, 100))
        (frame,) = read([source("image", data)])[0].frames
        (coarse,) = read([source("image", data, coarse=True)])[0].frames
        assert frame.shape == (22, 44, 3) and coarse.shape == (11, 22, 3)
        assert abs(frame.mean() - pattern(0, 200, 100).mean()) < 4


def test_of_an_animation_the_first_frame_is_the_picture():
    for name in ("GIF", "WEBP"):
        assert np.abs(see(animation(name)).astype(int) - pattern()).mean() < 6


def test_pixels_are_counted_before_anything_is_decoded():
    huge = still("PNG", Image.new("1", (10000, 10000)))
    for data in (huge, huge[:100]):
        with pytest.raises(MediaTooLarge, match="10000 x 10000 pixels"):
            see(data)
    gif = bytearray(STILLS["GIF"]())
    place = gif.index(b"\x2c\0\0\0\0", 13 + 3 * 2 ** (1 + (gif[10] & 7)))
    gif[place + 5 : place + 9] = b"\xff\xff\xff\xff"  # the frame, not the canvas
    with pytest.raises(MediaTooLarge, match="65535 x 65535 pixels"):
        see(bytes(gif))
    with pytest.raises(InvalidRequest, match="at most 100 times"):
        see(still("PNG", Image.new("1", (4, 401))))


@pytest.mark.parametrize("name", STILLS)
def test_half_a_picture_is_refused(name):
    data = STILLS[name]()
    for cut in (len(data) // 2, 30):
        with pytest.raises(InvalidRequest, match='"here" .*damaged') as refused:
            see(data[:cut])
        assert (refused.value.status, refused.value.param) == (400, "here")


def test_what_is_no_picture_is_refused():
    for data in (b"\x89PNG\r\n\x1a\n" + b"junk" * 50, b"\xff\xd8\xff" + b"junk" * 50, b"BM" + b"\0" * 80):
        with pytest.raises(InvalidRequest, match="damaged|no pixels"):
            see(data)
    with pytest.raises(UnsupportedMedia, match="none of the formats"):
        see(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(UnsupportedMedia, match='a clip .*"video_url"'):
        see(clip("mp4", "libx264", frames=2))
