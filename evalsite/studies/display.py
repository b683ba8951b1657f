"""The bytes that raters see, made the same way for every system. Pure functions, no Django.

Lossless WebP: exact pixels like PNG, encoded several times as fast, shown by every
current browser. A file holds three chunks only: VP8X (the size), VP8L (the pixels), and one
unknown chunk that pads all files of a prompt to one length, so that no length tells a system.
"""

import hashlib
import io
import struct
from dataclasses import dataclass

from PIL import Image

FORMATS = ("WEBP", "PNG", "JPEG")  # what an image may be stored as
CONTENT_TYPE = "image/webp"
SUFFIX = ".webp"
CODEC = "lossless WebP, padded to one length per prompt"
GREY = (128, 128, 128)  # the ground on which other shapes are centred
PAD_CHUNK = b"PADD"
CHUNK_HEAD = 8

RESAMPLERS = {
    "NEAREST": Image.Resampling.NEAREST,
    "BILINEAR": Image.Resampling.BILINEAR,
    "BICUBIC": Image.Resampling.BICUBIC,
    "LANCZOS": Image.Resampling.LANCZOS,
}


class UnreadableImageError(ValueError):
    """The stored bytes are no image that can be shown."""


@dataclass(frozen=True)
class Frame:
    """How a study shows its images. Without an upscaler nothing is enlarged."""

    size: int
    resampler: str
    upscaler: str = ""


def display_files(images: list[Image.Image], frame: Frame) -> list[bytes]:
    """Canonical files of one prompt's images, all of one length."""
    return pad_to_one_length([encode(fit(image, frame)) for image in images])


def decode(data: bytes) -> Image.Image:
    """The pixels of a stored image, which `generation.encoding` has made 8-bit sRGB already."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"expected an image, {error}") from error


def fit(image: Image.Image, frame: Frame) -> Image.Image:
    """The whole image, never cropped, centred in the square box on neutral grey."""
    scale = min(frame.size / image.width, frame.size / image.height)
    if scale < 1:
        image = _resize(image, scale, frame.resampler)
    elif scale > 1 and frame.upscaler:
        image = _resize(image, scale, frame.upscaler)
    if image.size == (frame.size, frame.size):
        return image
    box = Image.new("RGB", (frame.size, frame.size), GREY)
    box.paste(image, ((frame.size - image.width) // 2, (frame.size - image.height) // 2))
    return box


def _resize(image: Image.Image, scale: float, resampler: str) -> Image.Image:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, RESAMPLERS[resampler])


def encode(image: Image.Image) -> bytes:
    """One encoder with one setting; the pixels are all that the file holds."""
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=True, quality=0, method=0, exact=True)
    pixels = _pixel_chunk(out.getvalue())
    extended = struct.pack("<I", 0) + _uint24(image.width - 1) + _uint24(image.height - 1)
    return _riff(_chunk(b"VP8X", extended) + pixels)


def _pixel_chunk(webp: bytes) -> bytes:
    """The VP8L chunk of a file that the encoder wrote: nothing else of it is kept."""
    at = 12
    while at < len(webp):
        (length,) = struct.unpack_from("<I", webp, at + 4)
        end = at + CHUNK_HEAD + length + length % 2
        if webp[at : at + 4] == b"VP8L":
            return webp[at:end]
        at = end
    raise ValueError("expected a lossless WebP file, found no VP8L chunk")


def _uint24(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def pad_to_one_length(files: list[bytes]) -> list[bytes]:
    """Every file as long as the longest with its padding chunk.

    Decoders skip a chunk that they do not know. The padding is noise made from the file, so
    that no compression on the way brings the lengths back; the longest gets an empty chunk.
    """
    length = max(map(len, files)) + CHUNK_HEAD
    return [_padded(file, length - len(file) - CHUNK_HEAD) for file in files]


def _padded(file: bytes, n_bytes: int) -> bytes:
    noise = hashlib.shake_256(file).digest(n_bytes)
    return _riff(file[12:] + _chunk(PAD_CHUNK, noise))
