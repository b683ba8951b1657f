"""A study is a file: TOML in, a checked StudySpec or a list of readable problems out.

docs/study-file.md shows the whole format. Every field's description completes the sentence
"expected ...", and a problem names the file, the table and the key it stands in.
"""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from django.conf import settings
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from evalsite.studies import catalogue
from evalsite.studies.prompts import MAX_PROMPT_LENGTH, PromptQuery
from evalsite.studies.spec_claims import ClaimSpec, LooksSpec
from evalsite.studies.spec_problems import (
    Sound,
    SpecError,
    cross_check,
    describe_problems,
    syntax_problem,
)
from evalsite.studies.spec_systems import Key, SystemSpec, Table

PRESETS = Path(__file__).resolve().parent / "presets"
MAX_SPEC_BYTES = 16 * 1024 * 1024
MAX_SEED = 2**53 - 1  # exact in JSON and in every browser

Resampler = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_RESAMPLERS = '"nearest", "bilinear", "bicubic" or "lanczos"'
OnDefect = Literal["refuse", "drop", "keep"]
_ON_DEFECT = '"refuse", "drop" or "keep"'

# What the columns hold in every database.
Small = Annotated[int, Field(ge=1, le=2**15 - 1, description="a whole number from 1 to 32,767")]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
COUNT_WORDS = "a whole number from 1 to 2,147,483,647"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Values = Annotated[
    list[str],
    BeforeValidator(_as_list),
    Field(min_length=1, description="a text or a list of them"),
]


class InlinePrompt(Table):
    """A prompt in the study file itself: a text, or a table with its category."""

    branch: ClassVar = "list"

    text: str = Field(
        min_length=1,
        max_length=MAX_PROMPT_LENGTH,
        description=f"a text of 1 to {MAX_PROMPT_LENGTH} characters",
    )
    category: str = Field("", max_length=80, description="a text of at most 80 characters")
    challenge: str = Field("", max_length=80, description="a text of at most 80 characters")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class PromptFile(Table):
    """Prompts in a file beside the study file."""

    branch: ClassVar = "file"

    file: str = Field(min_length=1, description="a path, relative to the study file")
    text: str = Field("", description="the name of the column that holds the prompt")
    category: str = Field("", description="the name of a column")
    challenge: str = Field("", description="the name of a column")
    include: dict[str, Values] = Field(
        {}, description='columns with the values to keep, as in { Category = ["Animals"] }'
    )
    exclude: dict[str, Values] = Field(
        {}, description='columns with the values to leave out, as in { Challenge = ["Basic"] }'
    )
    draw: Count | None = Field(None, description=COUNT_WORDS)
    stratify: str = Field("", description="the name of a column")
    share: Literal["proportional", "equal"] = Field(
        "proportional", description='"proportional" or "equal"'
    )

    @property
    def query(self) -> PromptQuery:
        return PromptQuery(**self.model_dump(exclude={"file"}))


def _prompts_kind(value: Any) -> str | None:
    if isinstance(value, list):
        return "list"
    return "file" if isinstance(value, Mapping | PromptFile) else None


class CriterionSpec(Table):
    """One question, as raters read it."""

    key: Key
    question: str = Field(min_length=1, max_length=1000, description="the question as asked")
    show_prompt: bool = Field(True, description="true or false")
    ties: Literal["forced", "allowed"] = Field(
        "forced", description='"forced" (left or right) or "allowed" ("no preference" as well)'
    )


class DisplaySpec(Table):
    """The files that raters see, made the same way for every system."""

    size: int = Field(ge=16, le=4096, description="pixels: a whole number from 16 to 4096")
    resampler: Resampler = Field("lanczos", description=_RESAMPLERS)
    upscaler: Resampler | None = Field(None, description=_RESAMPLERS)


class StudySpec(Table):
    """The whole file. `name` is the file's name and `folder` what its paths are relative to."""

    title: str = Field(min_length=1, max_length=200, description="a text of 1 to 200 characters")
    slug: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9_-]*)?$",
        max_length=80,
        description="small letters, digits, - and _, at most 80",
    )
    instructions: str = Field("", max_length=20_000, description="a text")
    consent: str = Field("", max_length=20_000, description="a text")
    seed: int = Field(ge=0, le=MAX_SEED, description="a whole number from 0 to 2^53 - 1")
    simulated: bool = Field(False, description="true or false")
    pairs: Literal["all", "baseline"] = Field("all", description='"all" or "baseline"')
    baseline: str = Field("", description="the key of a system")
    votes_per_comparison: Small
    votes_per_rater: Count | None = Field(None, description=COUNT_WORDS)
    on_failure: Literal["drop_prompt", "drop_comparison"] = Field(
        "drop_prompt", description='"drop_prompt" or "drop_comparison"'
    )
    on_blank: OnDefect = Field("refuse", description=_ON_DEFECT)
    on_duplicate: OnDefect = Field("refuse", description=_ON_DEFECT)
    display: DisplaySpec = Field(description="a table [display]")
    prompts: Annotated[
        Annotated[list[InlinePrompt], Field(min_length=1), Tag("list")]
        | Annotated[PromptFile, Tag("file")],
        Discriminator(_prompts_kind),
    ] = Field(description='a list of prompts, or a table [prompts] with file = "..."')
    systems: list[SystemSpec] = Field(min_length=2, description="at least two [[systems]]")
    criteria: list[CriterionSpec] = Field(min_length=1, description="at least one [[criteria]]")
    claims: list[ClaimSpec] = Field([], description="[[claims]]")
    looks: LooksSpec | None = Field(None, description="a table [looks]")
    sources: dict[str, Any] = Field({}, description="settings and where each comes from")

    _name: str = PrivateAttr("study.toml")
    _folder: Path = PrivateAttr(Path())

    @property
    def name(self) -> str:
        return self._name

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def study_slug(self) -> str:
        """The slug as stated, else the file's name without its ending."""
        return self.slug or Path(self._name).stem.lower()


_ELSEWHERE = {"label": "-", "family": "imported", "folder": "-"}
STAND_INS: dict[str, Any] = {  # for the required keys of a faulty file: never looked at
    "title": "-",
    "seed": 0,
    "votes_per_comparison": 1,
    "display": {"size": 16},
    "prompts": ["-"],
    "systems": [_ELSEWHERE | {"key": key} for key in "ab"],
    "criteria": [{"key": "a", "question": "-"}],
}


def presets() -> list[str]:
    """The names of the studies shipped with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def names_a_file(name: str) -> bool:
    """Whether SLUG-OR-FILE means a preset or a file: a slug has no slash and no dot."""
    return name in presets() or "/" in name or "." in name


def load_spec(name_or_path: str | Path) -> StudySpec:
    """A preset by its name, or any study file by its path. Raises SpecError.

    A preset lies inside the project, where users put nothing: its relative paths are looked
    up in VAR_DIR.
    """
    if str(name_or_path) in presets():
        path, folder = PRESETS / f"{name_or_path}.toml", settings.VAR_DIR
    else:
        path = Path(name_or_path).expanduser().absolute()
        folder = path.parent
    return parse_spec(_read_toml(path), name=path.name, folder=folder)


def parse_spec(data: Mapping[str, Any], *, name: str, folder: Path) -> StudySpec:
    """Check a study's tables. Raises SpecError with every problem found."""
    data, unknown = catalogue.spread(data)
    problems, faulty = [], frozenset[str]()
    try:
        spec = StudySpec.model_validate(dict(data))
    except ValidationError as error:
        problems = describe_problems(name, data, error, StudySpec, unknown=unknown)
        faulty = frozenset(str(problem["loc"][0]) for problem in error.errors())
        spec = _sound_part(data, faulty)
    spec._name = name
    spec._folder = folder
    problems += [f"{name}: {problem}" for problem in cross_check(spec, faulty=faulty, data=data)]
    if problems:
        raise SpecError(problems, sound=Sound(spec, faulty))
    return spec


class ClaimsFile(Table):
    """Claims about votes that are in a file: a file of claims, or a whole study file."""

    claims: list[ClaimSpec] = Field(min_length=1, description="at least one [[claims]]")
    looks: LooksSpec | None = Field(None, description="a table [looks]")


def load_claims(path: Path) -> ClaimsFile:
    """The claims and looks of a file, whatever else stands in it. Raises SpecError."""
    data = _read_toml(path)
    declared = {key: data[key] for key in ClaimsFile.model_fields if key in data}
    try:
        return ClaimsFile.model_validate(declared)
    except ValidationError as error:
        problems = describe_problems(path.name, declared, error, ClaimsFile, unknown={})
        raise SpecError(problems) from error


def _sound_part(data: Mapping[str, Any], faulty: frozenset[str]) -> StudySpec:
    """The file with stand-ins for its faulty keys, so that the rest can be looked at."""
    known = StudySpec.model_fields.keys() - faulty
    whole = {key: value for key, value in data.items() if key in known}
    spec = StudySpec.model_validate(STAND_INS | whole)
    rows = {"systems": SystemSpec, "criteria": CriterionSpec}
    kept = {table: _sound_rows(data.get(table), rows[table]) for table in faulty & rows.keys()}
    return spec.model_copy(update=kept)


def _sound_rows(rows: Any, kind: Any) -> list[Any]:
    one, kept = TypeAdapter[Any](kind), []
    for row in rows if isinstance(rows, list) else ():
        with suppress(ValidationError):
            kept.append(one.validate_python(row))
    return kept


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise SpecError([f"{path.name}: expected at most {MAX_SPEC_BYTES >> 20} MiB"])
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        known = ", ".join(presets())
        raise SpecError(
            [f"{path.name}: there is no such file (looked for {path}); presets: {known}"]
        ) from error
    except IsADirectoryError as error:
        raise SpecError([f"{path}: is a folder; expected a study file (.toml)"]) from error
    except OSError as error:
        raise SpecError([f"{path.name}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpecError([f"{path.name}: line {line}: expected UTF-8 text"]) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError([f"{path.name}: {syntax_problem(error)}"]) from error
