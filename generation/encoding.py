"""One lossless form for every stored image, painted or imported. Pure functions on PIL images."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image as Pictures
from PIL import ImageCms, ImageOps, ImageStat
from PIL.Image import Image as Picture

from generation.endings import IncompleteError, check_png, with_spare_data

FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",)}
MAX_PIXELS = 8192 * 8192
FLAT_LEVELS = 4  # of 255
BAND = 256  # rows
MODES = ("RGB", "RGBA", "L", "LA", "P", "1")  # 8 bits a channel, and a meaning we are sure of


@dataclass(frozen=True)
class Encoded:
    """A stored image's bytes: WebP without loss."""

    content: bytes
    sha256: str
    width: int
    height: int
    flat_colour: str = ""  # as #rrggbb where all is of it: nothing was painted

    suffix = ".webp"


def encode(picture: Picture) -> Encoded:
    """Lossless WebP at its fastest setting: a quarter of PNG's time, and smaller.

    Pixels come back exactly; nothing but pixels is kept.
    """
    plain = picture.convert("RGB")
    plain.info.clear()
    buffer = io.BytesIO()
    plain.save(buffer, "WEBP", lossless=True, quality=0, method=0)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    return Encoded(content, digest, plain.width, plain.height, flat_colour(plain))


def flat_colour(picture: Picture) -> str:
    """The colour of an RGB picture that has one colour to the eye, as `#000000`; else nothing.

    A safety filter, a full number range and a failed decoder all leave such pictures; a lossy file
    of one is off by a level here and there. So no channel's levels lie further apart than
    FLAT_LEVELS, anywhere in the picture: in grey about 1.6 of the 100 steps of CIELAB's lightness,
    less than an eye notices. The extremes count, and no share of the pixels, since the faintest
    drawing is a few pixels that differ.
    """
    ranges = cast(tuple[tuple[int, int], ...], picture.getextrema())
    if any(high - low > FLAT_LEVELS for low, high in ranges):
        return ""
    return "#" + "".join(f"{level:02x}" for level in ImageStat.Stat(picture).median)


class PictureError(ValueError):
    """A file that cannot be shown as an 8-bit sRGB still image, and why."""


def open_picture(path: Path) -> Picture:
    """Decode a file that came from outside into plain sRGB pixels, or say why not.

    Orientation and colour profile are applied, so that what is stored is what a viewer shows.
    Nothing is guessed: transparency, high bit depth and CMYK are refused.
    """
    try:
        with Pictures.open(path, formats=tuple(FORMATS)) as opened:
            _check(opened, path)
            opened.load()
            _check_end(opened, path)
            picture = ImageOps.exif_transpose(opened)
    except (FileNotFoundError, PictureError, MemoryError):
        raise
    except (Pictures.DecompressionBombError, Pictures.DecompressionBombWarning) as error:
        raise PictureError(f"too many pixels, expected at most {MAX_PIXELS:,} in all") from error
    except IncompleteError as error:
        raise PictureError(str(error)) from error
    except Exception as error:  # of broken files decoders raise anything: struct.error, ValueError
        raise PictureError(
            f"not an image that can be read (expected {', '.join(FORMATS)})"
        ) from error
    return _to_srgb(_without_alpha(picture))


def _check(opened: Picture, path: Path) -> None:
    kind = opened.format or ""
    if path.suffix.lower() not in FORMATS[kind]:
        raise PictureError(f"its content is {kind}, its name ends in {path.suffix or 'nothing'}")
    if opened.width * opened.height > MAX_PIXELS:
        raise PictureError(
            f"{opened.width} x {opened.height} pixels, expected at most {MAX_PIXELS:,} in all"
        )
    if getattr(opened, "is_animated", False):
        raise PictureError("animated, expected a still image")
    if opened.mode not in MODES:
        raise PictureError(f"pixels of mode {opened.mode}, expected 8-bit RGB or grey")


def _check_end(opened: Picture, path: Path) -> None:
    """Refuse a loaded picture of whose pixels Pillow has made some up, as the file ends early."""
    if opened.format == "PNG":
        with path.open("rb") as file:
            check_png(file)
    elif opened.format == "JPEG":
        content = io.BytesIO(with_spare_data(path.read_bytes()))
        with Pictures.open(content, formats=("JPEG",)) as again:
            if _pixels_sha256(again) != _pixels_sha256(opened):
                raise IncompleteError("cut short: its pixels end before the last row")


def _pixels_sha256(picture: Picture) -> str:
    """A band at a time: the bytes of all pixels at once are as much again as the picture."""
    total = hashlib.sha256()
    for top in range(0, picture.height, BAND):
        band = picture.crop((0, top, picture.width, min(top + BAND, picture.height)))
        total.update(band.tobytes())
    return total.hexdigest()


def _without_alpha(picture: Picture) -> Picture:
    """Drop an opaque alpha channel; a background for transparent pixels is not ours to choose."""
    if not picture.has_transparency_data:
        return picture
    alpha = picture.convert("RGBA").getchannel("A")
    if alpha.getextrema() != (255, 255):
        raise PictureError("has transparent pixels: put it on a background first")
    return picture.convert("RGBA").convert("RGB")


def _to_srgb(picture: Picture) -> Picture:
    profile = picture.info.get("icc_profile")
    plain = picture if picture.mode in ("RGB", "L") else picture.convert("RGB")
    if not profile:
        return plain.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            plain, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise PictureError("its colour profile cannot be applied") from error
    if converted is None:
        raise PictureError("its colour profile cannot be applied")
    return converted


def file_sha256(path: Path) -> str:
    """The hash of a file as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
