"""What safetensors files hold, told from their headers: no tensor is read, and no torch is needed.

A header is a length in eight bytes and JSON: every tensor's type, shape and place in the file.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MAX_HEADER_BYTES = 100_000_000  # the format's own limit

# The end of a tensor's name, in the forms of a LoRA's two halves that are in use.
LORA_HALF = re.compile(
    r"\.(?:lora_linear_layer\.|lora\.)?(down|up|lora_A|lora_B|lora_down|lora_up)\.weight$"
)
UNREADABLE = (  # what JSON comes to that is none, or that means nothing
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
)
LORA_STRENGTHS = "lora_adapter_metadata"  # where diffusers writes them into a header
OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
}


class HeaderError(ValueError):
    """A file that is no safetensors file, or not all of one."""


class Header(NamedTuple):
    """Names of tensors, and texts that whoever wrote the file put beside them."""

    tensors: frozenset[str]
    texts: dict[str, str]


def read_header(file: Path) -> Header:
    """What a file says it holds. Raises HeaderError where it is not all there, with its size."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > min(size, MAX_HEADER_BYTES):
            raise HeaderError(f"{file} is no safetensors file, or cut short ({size:,} bytes)")
        head = opened.read(length)
    try:
        told = json.loads(head)
        texts = told.pop("__metadata__", {})
        end = max((int(tensor["data_offsets"][1]) for tensor in told.values()), default=0)
        texts = dict(texts)
    except UNREADABLE as error:
        raise HeaderError(f"{file} is no safetensors file: its header cannot be read") from error
    if size != 8 + length + end:
        raise HeaderError(f"{file}: expected {8 + length + end:,} bytes, found {size:,}")
    return Header(frozenset(told), texts)


def file_problem(file: Path) -> str:
    """Why a file cannot be loaded; empty when it is whole."""
    try:
        read_header(file)
    except (OSError, HeaderError) as error:
        return str(error)
    return ""


def split_problems(index: Path) -> list[str]:
    """What lacks of a model in several files, whose index names the file of every tensor."""
    try:
        file_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {
            f"{file}": {name for name in file_of if file_of[name] == file}
            for file in file_of.values()
        }
    except (OSError, *UNREADABLE):
        return [f'{index} cannot be read; expected "weight_map", the file of every tensor']
    return [
        problem
        for file, tensors in sorted(files.items())
        if (problem := _shard_problem(index, file, tensors))
    ]


def _shard_problem(index: Path, file: str, tensors: set[str]) -> str:
    try:
        absent = sorted(tensors - read_header(index.parent / file).tensors)
    except FileNotFoundError:
        return f"{index.parent / file} is not there; {index.name} names it"
    except (OSError, HeaderError) as error:
        return str(error)
    except ValueError:  # what no file can be called
        return f"{index} names {file!r}, which is no file's name"
    if not absent:
        return ""
    more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
    return f"{index.parent / file}: no tensor {absent[0]}{more}; {index.name} says it is there"


def lora_problem(file: Path) -> str:
    """Why a file is no LoRA that can be added into weights, naming what was found in it; empty
    when it is one. diffusers passes over what a DoRA holds beyond a LoRA, and paints another
    picture than the DoRA's."""
    try:
        header = read_header(file)
    except (OSError, HeaderError) as error:
        return str(error)
    if LORA_STRENGTHS in header.texts:
        return f"{file} keeps its strengths in its header, which is not read here"
    foreign = sorted(name for name in header.tensors if not _is_of_lora(name))
    if not foreign:
        return ""
    kinds = _kinds(foreign)
    what = f"is a {' and '.join(kinds)}" if kinds else "is no LoRA known here"
    more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    return (
        f"{file} {what}: it holds {foreign[0]}{more}; expected a LoRA alone, pairs such as "
        "lora_down.weight and lora_up.weight, or lora_A.weight and lora_B.weight, perhaps each "
        "with an alpha"
    )


def _is_of_lora(name: str) -> bool:
    return LORA_HALF.search(name) is not None or name.endswith(".alpha")


def _kinds(names: Iterable[str]) -> list[str]:
    found = {kind for name in names for mark, kind in OTHER_KINDS.items() if mark in name}
    return sorted(found)
