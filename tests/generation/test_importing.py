"""Images that others made: every problem is named with its line, and nothing is half taken."""

import csv
import hashlib
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures
from PIL import ImageCms, PngImagePlugin

from generation import encoding, manifest, services
from generation.encoding import PictureError, encode, open_picture
from generation.importing import ImportRefusedError, import_images
from generation.manifest import ManifestError, read_manifest
from generation.models import Image, ImageEvent
from generation.spec import Recipe, image_digest
from tests.generation.studio import recipe, stored_files
from tests.world import NOON


def picture(seed: int = 0, mode: str = "RGB", side: int = 8) -> Pictures.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Pictures.fromarray(noise).convert(mode)


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    fields = {"file_name": f"{number}.png", "prompt": "a cat", "system": "one", "sample": number}
    return fields | changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, a manifest of which a test breaks one thing."""
    made = tmp_path / "theirs"
    (made / "deep").mkdir(parents=True)
    for number in range(2):
        picture(number).save(made / f"{number}.png")
    picture(2).save(made / "deep" / "2.webp", lossless=True)
    picture(3).save(made / "3.jpg")
    return made


def write(folder: Path, rows: list[Any]) -> Path:
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def problems(folder: Path, rows: list[Any]) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(write(folder, rows))
    return caught.value.problems


def imported(read: manifest.Manifest, system: str = "one") -> Recipe:
    return Recipe(
        family="imported", checkpoint=str(read.path.parent), revision=read.revision(system)
    )


# Reading.


def test_a_manifest_is_read_from_json_lines_and_from_csv_alike(folder):
    rows = [
        row(0, prompt='a "cat", black', seed=7, source="https://example.org"),
        row(1, file_name="deep/2.webp", licence="CC0-1.0"),
        row(0, system="two", file_name="3.jpg", recipe="unknown sampler"),
    ]
    from_json = read_manifest(write(folder, ["", *rows]))
    (folder / "metadata.jsonl").unlink()
    with (folder / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, [*row(), "seed", "sha256", "recipe", "source", "licence"])
        writer.writeheader()
        writer.writerows(rows)
    from_csv = read_manifest(folder)
    plain = [[{**vars(one), "line": 0} for one in read.images] for read in (from_json, from_csv)]
    assert plain[0] == plain[1]
    assert from_json.systems == ("one", "two")
    assert [one.seed for one in from_json.images] == [7, 1, 0]
    assert [one.file_name for one in from_json.of_system("one")] == ["0.png", "deep/2.webp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "unknown column 'colour', expected file_name, prompt, system, sample"),
        ({"prompt": None}, "prompt: missing"),
        ({"system": ""}, "system: missing"),
        ({"system": "One"}, "system: expected a key of small letters, digits, - and _, at most 60"),
        ({"system": "o" * 61}, "at most 60, got 'ooo"),
        ({"system": "ev\x1b[2Jil"}, "got 'ev\\x1b[2Jil'"),
        ({"prompt": 3}, "prompt: expected text, got 3"),
        ({"prompt": "a\0cat"}, "prompt: expected text"),
        ({"sample": "first"}, "sample: expected a whole number from 0 to 32767, got 'first'"),
        ({"sample": -1}, "sample: expected a whole number"),
        ({"sample": True}, "sample: expected a whole number"),
        ({"seed": 2**63}, "seed: expected a whole number from 0 to 9223372036854775807"),
        ({"file_name": "absent.png"}, "absent.png is not there"),
        ({"file_name": "../secret.png"}, "expected a path below the folder"),
        ({"file_name": "deep/../../secret.png"}, "expected a path below the folder"),
        ({"file_name": "/etc/passwd"}, "expected a path below the folder"),
        ({"file_name": "deep\\2.webp"}, "expected a path below the folder"),
        ({"file_name": "C:2.webp"}, "expected a path below the folder"),
        ({"file_name": "deep"}, "deep is not there"),
        ({"file_name": "link.png"}, "link.png: a symbolic link"),
        ({"file_name": "way/2.webp"}, "way/2.webp: a symbolic link"),
        ({"file_name": "text.png"}, "text.png: not an image that can be read"),
        ({"file_name": "cut.png"}, "cut.png: not an image that can be read"),
        ({"file_name": "other.png"}, "other.png: its content is JPEG, its name ends in .png"),
        ({"file_name": "moving.webp"}, "moving.webp: animated, expected a still image"),
        ({"file_name": "moving.gif"}, "moving.gif: not an image that can be read (expected PNG"),
        ({"file_name": "deep.png"}, "deep.png: pixels of mode I;16, expected 8-bit"),
        ({"file_name": "ink.jpg"}, "ink.jpg: pixels of mode CMYK, expected 8-bit"),
        ({"file_name": "clear.png"}, "clear.png: has transparent pixels"),
        ({"sha256": "0" * 64}, "the manifest says 000000"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_what_was_expected(folder, change, message):
    (folder.parent / "secret.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "link.png").symlink_to(folder / "0.png")
    (folder / "way").symlink_to(folder / "deep")
    (folder / "text.png").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:100])
    picture(4).save(folder / "other.png", "JPEG")
    frames = [picture(n) for n in range(2)]
    for name in ("moving.webp", "moving.gif"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    Pictures.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(folder / "deep.png")
    picture(5, "CMYK").save(folder / "ink.jpg")
    Pictures.new("RGBA", (8, 8), (1, 2, 3, 4)).save(folder / "clear.png")
    found = problems(folder, [row(0), row(1, **change)])
    assert len(found) == 1
    assert found[0].startswith("metadata.jsonl line 2: ")
    assert message in found[0]


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(folder, monkeypatch):
    monkeypatch.setattr(encoding, "MAX_PIXELS", 63)
    assert "8 x 8 pixels, expected at most 63 in all" in problems(folder, [row(0)])[0]


def test_a_bomb_is_refused(folder):
    # A small file whose header promises 400 million pixels.
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    plain = (folder / "0.png").read_bytes()
    crc = struct.pack(">I", zlib.crc32(header))
    (folder / "bomb.png").write_bytes(plain[:12] + header + crc + plain[33:])
    assert (
        "bomb.png: too many pixels, expected at most 67,108,864"
        in problems(folder, [row(0, file_name="bomb.png")])[0]
    )


def text_bomb() -> bytes:
    """A picture of a few pixels with 80 MB of notes in 80 kB."""
    notes, file = PngImagePlugin.PngInfo(), io.BytesIO()
    notes.add_text("a", "b" * 80_000_000, zip=True)
    picture().save(file, "PNG", pnginfo=notes)
    return file.getvalue()


def tall_as_a_text() -> bytes:
    """A picture that must be turned, with a note that says in a text how high it is."""
    exif, file = Pictures.Exif(), io.BytesIO()
    exif[0x0112], exif[0x0131] = 6, "a program"
    picture().save(file, "PNG", exif=exif)
    program, height = b"\x01\x31\x00\x02", b"\x01\x01\x00\x02"  # a tag, and its type
    start = file.getvalue().index(b"eXIf") - 4
    length = int.from_bytes(file.getvalue()[start : start + 4])
    chunk = file.getvalue()[start + 4 : start + 8 + length]
    assert program in chunk
    broken = chunk.replace(program, height)
    crc = struct.pack(">I", zlib.crc32(broken))
    after = file.getvalue()[start + 12 + length :]
    return file.getvalue()[: start + 4] + broken + crc + after


def short_header() -> bytes:
    file = io.BytesIO()
    picture().save(file, "PNG")
    header = b"IHDR" + file.getvalue()[16:20]
    crc = struct.pack(">I", zlib.crc32(header))
    return file.getvalue()[:8] + b"\0\0\0\x04" + header + crc + file.getvalue()[33:]


@pytest.mark.parametrize("make", [text_bomb, tall_as_a_text, short_header])
def test_whatever_a_decoder_raises_is_a_problem_of_that_file(folder, make):
    (folder / "odd.png").write_bytes(make())
    (found,) = problems(folder, [row(0, file_name="odd.png"), row(1)])
    assert found.startswith("metadata.jsonl line 1: file_name: odd.png: not an image that can")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": 0}, "line 2: prompt, system and sample are those of metadata.jsonl line 1"),
        ({"seed": 0}, "line 2: prompt, system and seed are those of metadata.jsonl line 1 (a row"),
    ],
)
def test_one_answer_cannot_be_given_twice(folder, change, message):
    (found,) = problems(folder, [row(0), row(1, **change)])
    assert message in found


def test_all_problems_are_listed_at_once(folder):
    found = problems(folder, [row(0, sample="x", file_name="no.png"), "{", "[]", row(1, blue=1)])
    assert [one.split(": ")[0] for one in found] == [
        f"metadata.jsonl line {line}" for line in (1, 1, 2, 3, 4)
    ]


def test_a_folder_needs_exactly_one_manifest(folder):
    with pytest.raises(ManifestError, match="neither is there"):
        read_manifest(folder)
    write(folder, [row(0)])
    (folder / "metadata.csv").write_text("file_name,prompt,system,sample\n")
    with pytest.raises(ManifestError, match="both are there"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b"\xff\xfe", "expected UTF-8 text"),
        (b'{"file_name": ' + b"[" * 50_000, "not a JSON object"),
        (b'"' + b"x" * 200_000 + b'"', "longer than 100,000 characters"),
    ],
)
def test_a_manifest_that_is_no_text_or_no_rows_is_refused(folder, content, message):
    (folder / "metadata.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,prompt,system,sample\n0.png,a cat,one,0,extra\n", "more cells than columns"),
        ("file_name,prompt\n0.png,a cat\n", "system: missing"),
        ('file_name,prompt,system,sample\n0.png,"a cat,one,0\n', "not readable as CSV"),
    ],
)
def test_a_csv_with_ragged_rows_is_refused(folder, text, message):
    (folder / "metadata.csv").write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(folder)


def test_a_system_s_revision_is_that_of_its_own_answers(folder):
    rows = [row(0), row(1), row(0, system="two", file_name="3.jpg")]
    read = read_manifest(write(folder, rows))
    reordered = read_manifest(write(folder, rows[::-1]))
    assert read.revision("one") == reordered.revision("one") != read.revision("two")
    picture(9).save(folder / "3.jpg")
    changed = read_manifest(folder)
    assert changed.revision("one") == read.revision("one")
    assert changed.revision("two") != read.revision("two")


# Pixels.


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA"])
def test_stored_pixels_are_exactly_those_that_came(tmp_path, mode):
    original = picture(1, mode)
    original.save(tmp_path / "one.png")
    stored = Pictures.open(io.BytesIO(encode(open_picture(tmp_path / "one.png")).content))
    assert (np.asarray(stored) == np.asarray(original.convert("RGB"))).all()
    assert stored.format == "WEBP"


def test_nothing_but_pixels_is_stored(tmp_path):
    exif = Pictures.Exif()
    exif[0x0131] = "Secret Model 9000"
    picture(1).save(tmp_path / "one.png", exif=exif)
    content = encode(open_picture(tmp_path / "one.png")).content
    assert b"Secret" not in content
    assert b"EXIF" not in content
    assert b"ICCP" not in content


def test_an_image_is_turned_as_a_viewer_would_turn_it(tmp_path):
    exif = Pictures.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    original = picture(1, side=8).resize((8, 4))
    original.save(tmp_path / "one.png", exif=exif)
    turned = open_picture(tmp_path / "one.png")
    assert (np.asarray(turned) == np.asarray(original.rotate(-90, expand=True))).all()


def test_a_colour_profile_is_applied(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture(1).save(tmp_path / "srgb.png", icc_profile=profile)
    difference = np.asarray(open_picture(tmp_path / "srgb.png"), int) - np.asarray(picture(1), int)
    assert np.abs(difference).max() <= 1
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture(1).save(tmp_path / "lab.png", icc_profile=lab)
    with pytest.raises(PictureError, match="colour profile"):
        open_picture(tmp_path / "lab.png")


# Files that end early: Pillow makes up what is missing.


ROW = bytes(1 + 64 * 3)  # of a black PNG: how it is filtered, and its pixels
INTERLACED = 64 * 64 * 3 + 120  # bytes: so many rows have the seven passes over 64 x 64 pixels


def png(pixels: bytes, width: int = 64, height: int = 64, interlaced: int = 0) -> bytes:
    """An RGB file with one well packed chunk of pixels, whatever its header promises."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def as_jpeg(**options: Any) -> bytes:
    out = io.BytesIO()
    picture(1, side=64).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def opened(path: Path, content: bytes) -> Pictures.Image:
    path.write_bytes(content)
    return open_picture(path)


@pytest.mark.parametrize(
    "content",
    [png(ROW * 30), png(ROW * 63), png(bytes(1 + 8192 * 3) * 200, 8192, 8192)],
    ids=["half", "one row", "large"],
)
def test_a_png_that_ends_before_its_last_row_is_refused_with_what_is_missing(folder, content):
    (folder / "0.png").write_bytes(content)
    (found,) = problems(folder, [row(0)])
    assert "0.png: cut short: " in found
    assert found.endswith(" bytes of its pixels are missing")


def test_a_png_whose_pixels_do_not_have_their_checksum_is_refused(tmp_path):
    whole = png(ROW * 64)
    with pytest.raises(PictureError, match="checksum"):
        opened(tmp_path / "one.png", whole.replace(whole[-16:-12], b"\0\0\0\0"))


JPEGS = [{}, {"progressive": True}, {"restart_marker_blocks": 5}, {"optimize": True}]
JPEGS += [{"progressive": True, "restart_marker_blocks": 5}]


@pytest.mark.parametrize("options", JPEGS)
def test_a_jpeg_that_ends_early_is_refused_wherever_it_ends(folder, options):
    whole = as_jpeg(**options)
    first = whole.index(b"\xff\xda") + 14
    for end in range(first, len(whole) - 40, len(whole) // 25):
        (folder / "3.jpg").write_bytes(whole[:end] + b"\xff\xd9")
        (found,) = problems(folder, [row(0, file_name="3.jpg")])
        assert "3.jpg: cut short: " in found or "not an image" in found


@pytest.mark.parametrize("options", JPEGS)
def test_a_whole_jpeg_is_taken_whatever_follows_it(tmp_path, options):
    whole = as_jpeg(**options, exif=b"Exif\0\0" + as_jpeg()[:9000])
    assert opened(tmp_path / "one.jpg", whole + as_jpeg()[:300]).size == (64, 64)


def test_an_interlaced_png_is_taken_when_it_is_whole(tmp_path):
    whole = opened(tmp_path / "one.png", png(bytes(INTERLACED), interlaced=1))
    assert whole.size == (64, 64)
    with pytest.raises(PictureError):
        opened(tmp_path / "one.png", png(bytes(INTERLACED - 1), interlaced=1))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 1), (37, 41)])
def test_a_png_of_any_kind_and_size_is_taken_when_it_is_whole(tmp_path, mode, size):
    picture(1, mode, side=64).resize(size).save(tmp_path / "one.png")
    assert open_picture(tmp_path / "one.png").size == size


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_that_ends_early_is_refused(folder, lossless):
    out = io.BytesIO()
    picture(1, side=64).save(out, "WEBP", lossless=lossless)
    cut = out.getvalue()[: len(out.getvalue()) // 4 * 2]
    sizes = (struct.pack("<I", len(cut) - 8), struct.pack("<I", len(cut) - 20))
    cut = cut[:4] + sizes[0] + cut[8:16] + sizes[1] + cut[20:]  # as if it were all there
    (folder / "0.webp").write_bytes(cut)
    assert "not an image" in problems(folder, [row(0, file_name="0.webp")])[0]


# Storing.


@pytest.mark.django_db
def test_imported_images_are_ready_with_where_they_came_from(folder):
    rows = [row(0, seed=7, source="https://example.org", licence="CC0-1.0"), row(1)]
    read = read_manifest(write(folder, rows))
    ids = import_images(imported(read), read.of_system("one"), at=NOON)
    assert list(ids) == [image_digest(imported(read), "a cat", seed) for seed in (7, 1)]
    stored = Image.objects.get(pk=ids[image_digest(imported(read), "a cat", 7)])
    assert (stored.status, stored.width, stored.height) == ("READY", 8, 8)
    assert stored.provenance == {
        "family": "imported",
        "original_sha256": hashlib.sha256((folder / "0.png").read_bytes()).hexdigest(),
        "file_name": "0.png",
        "recipe": "",
        "source": "https://example.org",
        "licence": "CC0-1.0",
    }
    content = stored.file.read()
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert (np.asarray(Pictures.open(io.BytesIO(content))) == np.asarray(picture(0))).all()


@pytest.mark.django_db
def test_importing_twice_stores_once(folder):
    read = read_manifest(write(folder, [row(0), row(1)]))
    first = import_images(imported(read), read.images, at=NOON)
    before = stored_files()
    assert import_images(imported(read), read.images, at=NOON) == first
    assert Image.objects.count() == 2
    assert stored_files() == before


@pytest.mark.django_db
def test_importing_again_mends_a_damaged_file_and_nothing_else(folder):
    read = read_manifest(write(folder, [row(0), row(1)]))
    ids = import_images(imported(read), read.images, at=NOON)
    hurt, other = Image.objects.order_by("pk")
    whole = hurt.file.read()
    Path(hurt.file.path).write_bytes(whole[:-9])
    with pytest.raises(services.DamagedFileError):
        services.read_stored(hurt, at=NOON)
    assert services.retry_failed(Image.objects.all(), at=NOON) == 0  # nobody can paint it
    assert import_images(imported(read), read.images, at=NOON) == ids
    mended, same = Image.objects.order_by("pk")
    assert (mended.status, mended.error) == ("READY", "")
    assert services.read_stored(mended, at=NOON) == whole
    assert same.file == other.file
    assert not Path(hurt.file.path).exists()
    assert [event.kind for event in mended.events.all()] == ["DAMAGED", "REPAINTED"]
    assert not same.events.exists()


@pytest.mark.django_db
def test_a_file_imported_again_with_other_content_is_another_image_and_leaves_an_event(folder):
    read = read_manifest(write(folder, [row(0), row(1)]))
    import_images(imported(read), read.images, at=NOON)
    old = Image.objects.get(provenance__file_name="1.png")
    picture(9).save(folder / "1.png")
    read = read_manifest(folder)
    ids = import_images(imported(read), read.images, at=NOON)
    import_images(imported(read), read.images, at=NOON)  # nothing is new: no event
    event = ImageEvent.objects.get()
    assert event.kind == "REIMPORTED"
    assert event.image_id == ids[image_digest(imported(read), "a cat", 1)] != old.pk
    assert (event.sha256_before, event.sha256_after) == (old.sha256, event.image.sha256)


@pytest.mark.django_db
def test_one_file_changed_since_the_manifest_was_read_stops_the_whole_import(folder):
    read = read_manifest(write(folder, [row(0), row(1)]))
    picture(9).save(folder / "1.png")
    before = stored_files()
    with pytest.raises(ImportRefusedError, match=r"line 2, 1.png: the file was changed"):
        import_images(imported(read), read.images, at=NOON)
    assert not Image.objects.exists()
    assert stored_files() == before


@pytest.mark.django_db
def test_what_a_refused_import_says_moves_no_cursor():
    said = ImportRefusedError(["\x1b[2J.png: the file was changed"])
    assert (*said.problems, str(said)) == ("\\x1b[2J.png: the file was changed",) * 2


def test_a_painted_recipe_takes_no_files(folder):
    read = read_manifest(write(folder, [row(0)]))
    with pytest.raises(ValueError, match="only an imported recipe"):
        import_images(recipe(), read.images, at=NOON)
