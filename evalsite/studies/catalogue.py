"""Ready systems: recipes that study files may use by name, and what is known of their weights.

The facts lie in catalogue.toml, each with its source. docs/systems.md is made for its readers.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, model_validator

from evalsite.studies.spec_systems import ImportedSystem, PaintedSystem, SystemSpec, Table

LOG_IN = "hf auth login"
CATALOGUE = Path(__file__).resolve().parent / "catalogue.toml"

_SYSTEM: TypeAdapter[PaintedSystem | ImportedSystem] = TypeAdapter(SystemSpec)


class WeightFacts(Table):
    """What the download of one repository takes. Decimal gigabytes; 0 where no figure is known."""

    disk_gb: float = Field(0, ge=0)
    disk_source: str = ""
    gate: str = ""  # what to do before the hub hands it out; empty: nothing
    commit_source: str = ""

    @model_validator(mode="after")
    def _sourced(self) -> "WeightFacts":
        if self.disk_gb and not self.disk_source:
            raise ValueError("disk_gb: expected disk_source beside it")
        return self


class About(Table):
    """What is known of a system beyond its recipe."""

    settings_source: str = Field(min_length=1)
    memory_gb: float = Field(0, ge=0)
    memory_source: str = ""
    import_reason: str = ""  # why this project cannot paint it; empty: it can

    @model_validator(mode="after")
    def _sourced(self) -> "About":
        if self.memory_gb and not self.memory_source:
            raise ValueError("memory_gb: expected memory_source beside it")
        return self


class _File(Table):
    read_on: date
    weights: dict[str, WeightFacts]
    systems: list[dict[str, Any]]


class UnknownSystem(LookupError):
    """No system of the catalogue has this key; the text says which are near."""


@dataclass(frozen=True)
class Entry:
    """A ready system: the table that a study file would hold, and what is known of it."""

    table: Mapping[str, Any]
    system: PaintedSystem | ImportedSystem
    about: About
    weights: Mapping[str, WeightFacts]  # of every place that the system names

    @property
    def key(self) -> str:
        return self.system.key

    @property
    def disk_gb(self) -> float:
        """Of all its weights; 0 when the size of some is not known."""
        sizes = [facts.disk_gb for facts in self.weights.values()]
        return sum(sizes) if all(sizes) else 0

    @property
    def gate(self) -> str:
        return next((facts.gate for facts in self.weights.values() if facts.gate), "")

    def as_toml(self) -> str:
        """The [[systems]] block, ready for a study file."""
        stages = self.table.get("stages", [])
        own = {key: value for key, value in self.table.items() if key != "stages"}
        blocks = [_block("systems", own), *(_block("systems.stages", stage) for stage in stages)]
        return "\n\n".join(blocks) + "\n"


@cache
def catalogue() -> dict[str, Entry]:
    """Every ready system by its key, in the order of the file."""
    file = _read()
    entries = (_entry(dict(table), file.weights) for table in file.systems)
    return {entry.key: entry for entry in entries}


def read_on() -> date:
    """When the sources of the catalogue were read."""
    return _read().read_on


def find(key: str) -> Entry:
    """The system with this key. Raises UnknownSystem."""
    known = catalogue()
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key, known, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}"
    raise UnknownSystem(f'there is no ready system "{key}"{hint}')


def gate_problems(repositories: Iterable[str]) -> list[str]:
    """What to do before the hub hands these out: of those known to be gated, and of those that the
    catalogue knows nothing of. Of its others no gate is known, and nothing is said."""
    problems = []
    for name in dict.fromkeys(repositories):
        facts, page = _read().weights.get(name), f"https://huggingface.co/{name}"
        if facts is None:
            problems.append(f"if {page} is gated: accept the licence there, then type: {LOG_IN}")
        elif facts.gate:
            problems.append(f"{name} is gated: {facts.gate} ({page}), then type: {LOG_IN}")
    return problems


def spread(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[int, str]]:
    """A study's tables with every `use = "KEY"` replaced by that system, and what is wrong.

    Keys beside `use` take the place of the catalogue's own. A table that uses an unknown system
    stays as it is, so that no study with it is valid; its place in the list goes with the problem.
    """
    systems = data.get("systems")
    if not isinstance(systems, list):
        return dict(data), {}
    whole, problems = [], dict[int, str]()
    for place, table in enumerate(systems):
        if not isinstance(table, Mapping) or "use" not in table:
            whole.append(table)
            continue
        own = {key: value for key, value in table.items() if key != "use"}
        try:
            whole.append({**find(str(table["use"])).table, **own})
        except UnknownSystem as error:
            whole.append(table)
            problems[place] = str(error)
    return {**data, "systems": whole}, problems


@cache
def _read() -> _File:
    return _File.model_validate(tomllib.loads(CATALOGUE.read_text(encoding="utf-8")))


def _entry(table: dict[str, Any], facts: Mapping[str, WeightFacts]) -> Entry:
    about = About.model_validate(table.pop("about"))
    system = _SYSTEM.validate_python(table)
    tables = [table, *table.get("stages", [])]
    places = [
        one[field]
        for one in tables
        for field in ("checkpoint", "unet", "lora", "vae")
        if field in one
    ]
    return Entry(table, system, about, {place: facts[place] for place in places})


def _block(name: str, table: Mapping[str, Any]) -> str:
    # JSON's texts, numbers, booleans and lists of numbers are TOML's as well.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
    return "\n".join([f"[[{name}]]", *lines])
