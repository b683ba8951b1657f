"""What is wrong with a study file, in words: where it stands, what was expected, what was found."""

import difflib
import re
import tomllib
import types
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from evalsite.studies.prompts import control_problem
from evalsite.studies.spec_claims import claim_problems, keys_in, readable_claims
from evalsite.studies.spec_systems import ImportedSystem, PaintedSystem
from generation.spec import HUB_ID

if TYPE_CHECKING:
    from evalsite.studies.spec import StudySpec

FAMILIES = '"sdxl", "deepfloyd-if", "amused", "diffusers" or "imported"'
ITEMS = {
    "prompts": 'a text, or a table as { text = "...", category = "..." }',
    "systems": f"[[systems]] with family = {FAMILIES}",
    "criteria": "[[criteria]] with key and question",
    "claims": "[[claims]] with kind, first, second and criterion",
}
OWN_WORDS = ("value_error", "assertion_error")


@dataclass(frozen=True)
class Sound:
    """What of a faulty study file can be looked at all the same: whatever is in `faulty`, a key of
    the file, holds a stand-in; of systems and criteria, those in which nothing was found wrong."""

    spec: "StudySpec"
    faulty: frozenset[str] = frozenset()


class SpecError(ValueError):
    """A study file cannot be used. `problems` lists all that was found; `sound`, where the file is
    TOML, is what of it can be looked at further."""

    def __init__(self, problems: Sequence[str], *, sound: Sound | None = None) -> None:
        self.problems = list(problems)
        self.sound = sound
        super().__init__("\n".join(self.problems))


def syntax_problem(error: tomllib.TOMLDecodeError) -> str:
    """`line 3, column 7: not TOML: ...` from tomllib's message."""
    found = re.match(r"(.*) \(at (?:(line \d+, column \d+)|(end of document))\)$", str(error), re.S)
    if not found:
        return f"not TOML: {error}"
    what, place, end = found.groups()
    return f"{place or end}: not TOML: {what[0].lower()}{what[1:]}"


def describe_problems(
    name: str,
    data: Mapping[str, Any],
    error: ValidationError,
    model: type[BaseModel],
    *,
    unknown: Mapping[int, str],
) -> list[str]:
    """One line per problem, in the order of the file's tables; of systems that `use` an `unknown`
    one, by their place in the list, only that: what else they lack cannot be told."""
    lines = [
        f"{name}: [[systems]] number {n + 1}, use: {problem}" for n, problem in unknown.items()
    ]
    for problem in error.errors(include_url=False):
        if problem["loc"][:2] in {("systems", n) for n in unknown}:
            continue
        path, branch = _without_branch(problem["loc"])
        if problem["type"].startswith("union_tag") and path[0] == "systems":
            path.append("family")
        words = _words(dict(problem), path, _tables_on(path, branch, model))
        lines.append(f"{name}: {_place(path, data)}: {words}")
    return list(dict.fromkeys(lines))


def _without_branch(loc: Sequence[int | str]) -> tuple[list[int | str], str]:
    """pydantic puts the branch of a union behind `prompts` and behind a system's number."""
    at = {"prompts": 1, "systems": 2}.get(str(loc[0]))
    if at is None or len(loc) <= at:
        return list(loc), ""
    return [*loc[:at], *loc[at + 1 :]], str(loc[at])


def _place(path: Sequence[int | str], data: Mapping[str, Any]) -> str:
    """`[[systems]] number 2 (key "turbo"), steps`, `[display], size`, `seed`."""
    table, *rest = path
    if rest and isinstance(rest[0], int):
        number, rest = rest[0], rest[1:]
        head = f"[[{table}]] number {number + 1}{_key_of(data, str(table), number)}"
        if table == "prompts":
            head = f"prompts, number {number + 1}"
    elif isinstance(data.get(str(table)), Mapping):
        head = f"[{table}]"
    elif table in ("systems", "criteria", "claims"):
        head = f"[[{table}]]"
    else:
        head = str(table)
    keys = ".".join(
        step if isinstance(step, str) else str(step + 1)
        for before, step in zip(["", *rest], rest)
        if isinstance(step, str) or before == "stages"
    )
    return f"{head}, {keys}" if keys else head


def _key_of(data: Mapping[str, Any], table: str, number: int) -> str:
    try:
        key = data[table][number]["key"]
    except (KeyError, IndexError, TypeError):
        return ""
    return f' (key "{key}")' if isinstance(key, str) else ""


def _words(
    problem: Mapping[str, Any], path: Sequence[int | str], tables: Sequence[type[BaseModel]]
) -> str:
    if problem["type"] in OWN_WORDS:
        return str(problem["ctx"]["error"])
    if problem["type"] == "extra_forbidden":
        return _unknown_key(str(path[-1]), sorted(tables[-1].model_fields))
    expected = _expected(path, tables)
    found = _shown(problem["input"])
    if problem["type"] == "missing" or problem["type"] == "union_tag_not_found":
        found = "nothing"
    if problem["type"] == "union_tag_invalid":
        found = _shown(problem["ctx"]["tag"])
    return f"expected {expected}, found {found}"


def _unknown_key(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}"
    return f"there is no such key{hint}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return str(len(value))
    if isinstance(value, list):
        return f"a list of {len(value)}" if len(value) > 4 else str(value)
    return str(value)


# The models know what is expected: a field's description completes "expected ...".


def _tables_on(
    path: Sequence[int | str], branch: str, model: type[BaseModel]
) -> list[type[BaseModel]]:
    """The table models that a path runs through, outermost first."""
    tables = [model]
    for step in path:
        field = tables[-1].model_fields.get(str(step))
        inner = _tables_in(field.annotation) if field else []
        chosen = [table for table in inner if getattr(table, "branch", branch) == branch]
        tables += (chosen or inner)[:1]
    return tables


def _expected(path: Sequence[int | str], tables: Sequence[type[BaseModel]]) -> str:
    """The description of the innermost field on the path that has one."""
    if isinstance(path[-1], int) and len(path) == 2:
        return ITEMS[str(path[0])]
    if path[-1] == "family":
        return FAMILIES
    for step in reversed(path):
        for table in reversed(tables):
            field = table.model_fields.get(str(step))
            if field and field.description:
                return field.description
    return "another value"


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    """Every table model inside a type such as list[A | B] | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, list, dict):
        return [table for part in get_args(annotation) for table in _tables_in(part)]
    return []


# Rules that hold between keys


def cross_check(
    spec: "StudySpec", *, faulty: Collection[str] = (), data: Mapping[str, Any]
) -> list[str]:
    """Every rule that one key alone cannot break, each in its own words. A rule is passed over
    where a key that it rests on is `faulty`; of systems and criteria, rules on each alone hold for
    those that are there. Of claims as much is said as `data`, the file's tables, allow."""
    rules = (
        (_repeated_keys, ()),
        (_repeated_prompts, ("prompts",)),
        (_baseline_problems, ("pairs", "baseline", "systems")),
        (_display_problems, ("display",)),
        (_draw_problems, ("prompts",)),
        (_recipe_problems, ("systems",)),
        (partial(_claim_problems, faulty=faulty, data=data), ()),
        (_source_problems, ("sources", "display", "prompts", "systems", "criteria")),
        (_telling_texts, ("instructions", "consent")),
    )
    sound = (rule for rule, keys in rules if not set(keys) & set(faulty))
    return [problem for rule in sound for problem in rule(spec)]


def _telling_texts(spec: "StudySpec") -> list[str]:
    """What raters read may name no system. A name that is a plain word ("real") may stand there."""
    texts = {"instructions": spec.instructions, "consent": spec.consent}
    texts |= {f"[[criteria]] {c.key}, question": c.question for c in spec.criteria}
    names = {n for s in spec.systems for n in (s.key, s.label) if re.search(r"[\W\d_]", n)}
    return [
        f'{place}: expected words that name no system, found "{name}": raters read this'
        for place, text in texts.items()
        for name in sorted(names)
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    ]


def _repeated_keys(spec: "StudySpec") -> list[str]:
    return [
        *_repeated("systems", [system.key for system in spec.systems]),
        *_repeated("criteria", [criterion.key for criterion in spec.criteria]),
    ]


def _repeated(table: str, keys: Sequence[str]) -> list[str]:
    return [
        f'[[{table}]], key: expected each key once, found "{key}" {n} times'
        for key, n in Counter(keys).items()
        if n > 1
    ]


def _repeated_prompts(spec: "StudySpec") -> list[str]:
    if not isinstance(spec.prompts, list):
        return []
    first: dict[str, int] = {}
    problems = []
    for number, prompt in enumerate(spec.prompts, start=1):
        if prompt.text in first:
            problems.append(
                f"prompts, number {number}: expected each prompt once, "
                f"found the text of number {first[prompt.text]} again"
            )
        first.setdefault(prompt.text, number)
    return problems


def _baseline_problems(spec: "StudySpec") -> list[str]:
    keys = [system.key for system in spec.systems]
    if spec.pairs == "all" and spec.baseline:
        return ['baseline: expected pairs = "baseline" beside it, found pairs = "all"']
    if spec.pairs == "baseline" and spec.baseline not in keys:
        found = f'found "{spec.baseline}"' if spec.baseline else "found nothing"
        return [f"baseline: expected the key of a system ({', '.join(keys)}), {found}"]
    return []


def _display_problems(spec: "StudySpec") -> list[str]:
    """Without a declared upscaler nothing is enlarged, so no system may be smaller."""
    if spec.display.upscaler:
        return []
    return [
        f"[display], size: expected at most {max(system.size)} (the native size of "
        f'"{system.key}"), or an upscaler declared; found {spec.display.size}'
        for system in spec.systems
        if system.family != "imported" and max(system.size) < spec.display.size
    ]


def _draw_problems(spec: "StudySpec") -> list[str]:
    if isinstance(spec.prompts, list):
        return []
    problems = []
    if spec.prompts.stratify and spec.prompts.draw is None:
        problems.append("[prompts], stratify: expected a draw beside it, as draw = 100")
    if spec.prompts.share == "equal" and not spec.prompts.stratify:
        problems.append('[prompts], share: expected stratify beside it, as stratify = "category"')
    return problems


def _claim_problems(
    spec: "StudySpec", *, faulty: Collection[str], data: Mapping[str, Any]
) -> list[str]:
    """A system that lacks its steps can be told from one that is not there."""
    claims: Sequence[Mapping[str, Any] | None] = [claim.model_dump() for claim in spec.claims]
    if "claims" in faulty:
        claims = readable_claims(data.get("claims"))
    return claim_problems(
        claims,
        systems=keys_in(data.get("systems")),
        criteria=keys_in(data.get("criteria")),
        baseline="" if {"pairs", "baseline"} & set(faulty) else spec.baseline,
    )


def _recipe_problems(spec: "StudySpec") -> list[str]:
    return [
        f'[[systems]] number {number} (key "{system.key}"), {words}'
        for number, system in enumerate(spec.systems, start=1)
        for words in recipe_problems(system, spec.folder)
    ]


def recipe_problems(system: PaintedSystem | ImportedSystem, folder: Path) -> list[str]:
    """What the painter would refuse, found before any weights are looked for."""
    if isinstance(system, ImportedSystem):
        return []
    try:
        system.recipe(folder, pin=unpinned)
    except ValidationError as error:
        return recipe_words(error)
    return []


def recipe_words(error: ValidationError) -> list[str]:
    """The painter's own words, one line per problem."""
    words = []
    for problem in error.errors(include_url=False):
        where = "".join(f"{step}: " for step in problem["loc"] if isinstance(step, str))
        own = problem["type"] in OWN_WORDS
        what = str(problem["ctx"]["error"]) if own else problem["msg"].lower()
        words += [f"{where}{part}" for part in what.split("; ")]
    return words


def unpinned(named: str, place: str) -> str:
    """A stand-in of the right form where a revision is still to be found."""
    return "0" * 40 if HUB_ID.fullmatch(place) else "sha256:" + "0" * 64


def flat_sources(sources: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`display.size = "..."` in TOML is a table in a table; readers want one flat list."""
    flat: dict[str, Any] = {}
    for key, value in sources.items():
        if isinstance(value, Mapping):
            flat |= flat_sources(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _source_problems(spec: "StudySpec") -> list[str]:
    known = _setting_names(spec)
    problems = []
    for name, text in flat_sources(spec.sources).items():
        if not isinstance(text, str) or not text.strip():
            problems.append(f"[sources], {name}: expected a text, found {_shown(text)}")
        elif problem := control_problem(text):
            problems.append(f"[sources], {name}: {problem}")
        elif name not in known:
            problems.append(f"[sources], {name}: {_unknown_key(name, known)}")
    return problems


def _setting_names(spec: "StudySpec") -> list[str]:
    """What a source may be given for: each key, and each table as a whole."""
    names = [key for key in type(spec).model_fields if key != "sources"]
    names += [f"display.{key}" for key in type(spec.display).model_fields]
    if not isinstance(spec.prompts, list):
        names += [f"prompts.{key}" for key in type(spec.prompts).model_fields]
    for table, rows in (("systems", spec.systems), ("criteria", spec.criteria)):
        for row in rows:
            names.append(f"{table}.{row.key}")
            names += [f"{table}.{row.key}.{key}" for key in type(row).model_fields]
    return names
