"""The bytes that raters see tell nothing but the pixels."""

import io
import random

import pytest
from PIL import Image, PngImagePlugin

from evalsite.studies import display
from evalsite.studies.display import Frame, UnreadableImageError, decode, display_files, fit

GREY = (128, 128, 128)


def noise(size: tuple[int, int], seed: int = 1) -> Image.Image:
    rng = random.Random(seed)
    return Image.frombytes("RGB", size, rng.randbytes(size[0] * size[1] * 3))


def chunks(data: bytes) -> dict[bytes, int]:
    """Chunk names of a WebP file, with the length of each."""
    assert data[:4] == b"RIFF"
    assert data[8:12] == b"WEBP"
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    found, at = {}, 12
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found[data[at : at + 4]] = length
        at += 8 + length + length % 2
    assert at == len(data)
    return found


def reopen(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_all_files_of_a_prompt_are_of_one_length():
    images = [Image.new("RGB", (64, 64), (9, 9, 9)), noise((64, 64)), noise((64, 64), 2)]
    files = display_files(images, Frame(64, "LANCZOS"))
    assert len({len(file) for file in files}) == 1
    assert len(files[0]) > 12_000  # as long as noise: the plain one was padded


def test_headers_differ_in_nothing_but_sizes_of_content():
    images = [Image.new("RGB", (64, 64), (9, 9, 9)), noise((64, 64))]
    files = display_files(images, Frame(64, "LANCZOS"))
    assert len({file[:30] for file in files}) == 1  # RIFF, its length, and all of VP8X
    assert [list(chunks(file)) for file in files] == 2 * [[b"VP8X", b"VP8L", b"PADD"]]


def test_pixels_come_back_exactly_and_nothing_else():
    image = noise((64, 64))
    (file,) = display_files([image], Frame(64, "LANCZOS"))
    shown = reopen(file)
    assert (shown.format, shown.mode, shown.size) == ("WEBP", "RGB", (64, 64))
    assert shown.tobytes() == image.tobytes()
    assert not {"exif", "icc_profile", "xmp"} & set(shown.info)


def test_padding_cannot_be_compressed_away():
    import zlib

    plain, full = display_files(
        [Image.new("RGB", (64, 64), (9, 9, 9)), noise((64, 64))], Frame(64, "LANCZOS")
    )
    assert len(zlib.compress(plain, 9)) > 0.98 * len(full)


def test_metadata_of_the_stored_image_is_left_behind():
    about = PngImagePlugin.PngInfo()
    about.add_text("model", "sdxl-turbo")
    out = io.BytesIO()
    noise((64, 64)).save(out, "PNG", pnginfo=about, dpi=(300, 300))
    (file,) = display_files([decode(out.getvalue())], Frame(64, "LANCZOS"))
    assert b"turbo" not in file
    assert list(chunks(file)) == [b"VP8X", b"VP8L", b"PADD"]


def test_the_same_image_gives_the_same_file_whichever_system_it_is_of():
    image = noise((96, 96))
    first, second = display_files([image, image.copy()], Frame(64, "LANCZOS"))
    assert first == second


@pytest.mark.parametrize(
    ("size", "box"),
    [((128, 64), (0, 16, 64, 48)), ((64, 128), (16, 0, 48, 64)), ((64, 16), (0, 24, 64, 40))],
)
def test_other_shapes_are_fitted_whole_and_centred_on_grey(size, box):
    shown = fit(Image.new("RGB", size, (200, 0, 0)), Frame(64, "BILINEAR"))
    assert shown.size == (64, 64)
    inside = shown.crop(box)
    assert inside.getcolors() == [((box[2] - box[0]) * (box[3] - box[1]), (200, 0, 0))]
    outside = {colour: n for n, colour in shown.getcolors()}
    assert outside[GREY] == 64 * 64 - inside.width * inside.height
    assert len(outside) == 2


def test_larger_images_are_resampled_as_declared():
    image = noise((128, 128))
    for name in display.RESAMPLERS:
        expected = image.resize((64, 64), display.RESAMPLERS[name])
        assert fit(image, Frame(64, name)).tobytes() == expected.tobytes()


def test_smaller_images_are_not_enlarged_unless_declared():
    image = noise((32, 32))
    kept = fit(image, Frame(64, "LANCZOS"))
    assert kept.crop((16, 16, 48, 48)).tobytes() == image.tobytes()
    assert kept.getpixel((0, 0)) == GREY
    enlarged = fit(image, Frame(64, "LANCZOS", "NEAREST"))
    assert enlarged.tobytes() == image.resize((64, 64), Image.Resampling.NEAREST).tobytes()


def test_what_is_no_image_is_refused():
    with pytest.raises(UnreadableImageError, match="expected an image"):
        decode(b"GIF89a, or so it says")
    out = io.BytesIO()
    noise((64, 64)).save(out, "PNG")
    with pytest.raises(UnreadableImageError, match="expected an image"):
        decode(out.getvalue()[:500])


def test_chromium_shows_a_padded_file(tmp_path, browser):
    image = noise((64, 64))
    (plain, _) = display_files([image.copy(), noise((64, 64), 2)], Frame(64, "LANCZOS"))
    (tmp_path / "shown.webp").write_bytes(plain)
    (tmp_path / "page.html").write_text('<body style="margin:0"><img src="shown.webp">')
    page = browser.new_page(viewport={"width": 64, "height": 64})
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("document.images[0].complete")
    screen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    assert screen.tobytes() == image.tobytes()
