"""Whether a PNG or JPEG file holds all the pixels that its header promises.

Decoders paint what is missing black or grey and say nothing, and a study would show that as the
system's answer. Of WebP files libwebp refuses those that are cut short itself.
"""

import re
import struct
import zlib
from typing import BinaryIO

PIECE = 1 << 16  # bytes read and inflated at once, so that a small file cannot fill the memory
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
# Of each pass of an interlaced PNG: first column and row, and steps to the next.
PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip

HUFFMAN = (0xC0, 0xC1, 0xC2)  # JPEG's frames that are coded with Huffman codes, and with loss
OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
SCAN, END = 0xDA, 0xD9
# After a scan's coded data follows a marker that is neither a stuffed zero nor a restart.
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
# What a decoder reads only where data is missing: other bits than the zeros that it makes up, and
# some for every restart that it may wait for. Those begin with a zero, as some code always does.
NOISE = [bytes((73 * n + 31 * restart + 91) % 128 for n in range(64)) for restart in range(8)]
RESTART = re.compile(rb"\xff([\xd0-\xd7])")


class IncompleteError(ValueError):
    """A file that ends before its last pixel, or that cannot be followed to its end."""


def check_png(file: BinaryIO) -> None:
    """Inflate all pixel data, a piece at a time, and count its bytes and its chunks' checksums.

    Raises IncompleteError where there is less than size, depth and interlacing ask for.
    """
    file.seek(8)
    missing, inflate = -1, zlib.decompressobj()
    while missing:
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"IEND")
        if kind == b"IHDR":
            header = file.read(length)
            missing = _n_bytes(*struct.unpack(">IIBBBBB", header[:13]))
            file.seek(4, 1)
        elif kind == b"IDAT":
            missing = _inflated(file, length, inflate, missing)
        elif kind == b"IEND":
            raise IncompleteError(f"cut short: {missing:,} bytes of its pixels are missing")
        else:
            file.seek(length + 4, 1)


def _inflated(file: BinaryIO, length: int, inflate: "zlib._Decompress", missing: int) -> int:
    """Read one chunk of pixel data: how many bytes are still missing after it."""
    crc = zlib.crc32(b"IDAT")
    while length:
        piece = file.read(min(PIECE, length))
        if not piece:
            raise IncompleteError("cut short: the file ends within its pixels")
        length, crc = length - len(piece), zlib.crc32(piece, crc)
        while missing and (piece or inflate.unconsumed_tail):
            try:
                out = inflate.decompress(piece, min(PIECE, missing))
            except zlib.error as error:
                raise IncompleteError("damaged: its pixels cannot be unpacked") from error
            missing -= len(out)
            piece = inflate.unconsumed_tail if out else b""
    if file.read(4) != struct.pack(">I", crc):
        raise IncompleteError(
            "damaged: its pixels do not have the checksum that stands beside them"
        )
    return missing


def _n_bytes(
    width: int, height: int, depth: int, colour: int, _packing: int, _filter: int, interlaced: int
) -> int:
    """How many bytes the rows have, each with the byte that names its filter."""
    total = 0
    for x, y, dx, dy in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = max(0, -((x - width) // dx)), max(0, -((y - height) // dy))
        if columns:
            total += rows * (1 + (columns * depth * CHANNELS[colour] + 7) // 8)
    return total


def with_spare_data(content: bytes) -> bytes:
    """A JPEG file with noise after the data of every scan.

    Where the scans are whole no decoder looks at it, and pixels stay as they were; a scan that ends
    early takes it for the missing ones. Raises IncompleteError where scans are missing altogether.
    """
    pieces, lacking, start, at = list[bytes](), set[tuple[int, int]](), 0, 2
    while at + 4 <= len(content):
        found = MARKER.match(content, at)
        if not found:
            raise IncompleteError("damaged: between its parts lies what is no part of a JPEG file")
        kind, at = found[1][0], found.end()
        if kind == END:
            break
        (length,) = struct.unpack(">H", content[at : at + 2])
        part, at = content[at + 2 : at + length], at + length
        if kind in OTHER_FRAMES:
            raise IncompleteError("a rare kind of JPEG file, save it as PNG or as a common one")
        if kind in HUFFMAN:
            lacking = {(part[6 + 3 * n], k) for n in range(part[5]) for k in range(64)}
        if kind == SCAN:
            lacking -= _refined(part)
            ending = MARKER.search(content, at)
            end = ending.start() if ending else len(content)
            pieces += [content[start:end], _spare(content[at:end])]
            start = at = end
    if lacking:
        raise IncompleteError("cut short: scans of its pixels are missing")
    return b"".join([*pieces, content[start:]])


def _spare(scan: bytes) -> bytes:
    """Noise, and noise after each restart, from the one that the scan's data would go on with."""
    restarts = RESTART.findall(scan)
    first = restarts[-1][0] + 1 if restarts else 0
    turns = [(first + n) % 8 for n in range(8)]
    return b"\xfe" + NOISE[0] + b"".join(b"\xff" + bytes([0xD0 + n]) + NOISE[n] for n in turns)


def _refined(scan: bytes) -> set[tuple[int, int]]:
    """The components and frequencies that a scan brings to their last bit."""
    n = scan[0]
    first, last, bits = scan[1 + 2 * n : 4 + 2 * n]
    if bits & 15:
        return set()
    return {(scan[1 + 2 * one], k) for one in range(n) for k in range(first, last + 1)}
