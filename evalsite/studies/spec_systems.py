"""The [[systems]] of a study file: one table for each family, with the keys that it uses."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from evalsite.studies.prompts import control_problem
from generation.spec import PLACES, TRAIN_STEPS, Recipe, revision_field

Key = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        max_length=60,
        description="a key of small letters, digits, - and _, at most 60",
    ),
]
Revision = Annotated[
    str,
    Field(
        pattern=r"^([0-9a-f]{40}|sha256:[0-9a-f]{64}|)$",
        description='a commit of 40 hexadecimal digits, or "sha256:" and 64 of them',
    ),
]


def _side(value: Any) -> Any:
    """`size = 512` is short for `size = [512, 512]`."""
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


Size = Annotated[
    list[Annotated[int, Field(ge=8, le=8192, multiple_of=8)]],
    BeforeValidator(_side),
    Field(
        min_length=2,
        max_length=2,
        description="pixels, as one number for a square or [width, height]: "
        "multiples of 8 from 8 to 8192",
    ),
]


class Table(BaseModel):
    """A table of the file: known keys only, types as written, never changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, str_strip_whitespace=True)

    @field_validator("*")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, str) and (problem := control_problem(value)):
            raise ValueError(problem)
        return value


NOT_PAINTED = {"key", "label", "licence", "size"}  # of a system's keys
REPLACEABLE = PLACES[1:]


def place_of(text: str, folder: Path) -> str:
    """A path made absolute; a name below the checkpoint folders and a hub id as they are."""
    if text.startswith(("./", "../", "/", "~")):
        return str((folder / Path(text).expanduser()).resolve())
    return text


Place = Annotated[str, Field(description="a name, a path or a hub id, as for checkpoint")]
Dtype = Literal["float32", "float16", "bfloat16"]
_DTYPES = '"float32", "float16" or "bfloat16"'


Scheduler = Annotated[
    str, Field(pattern=r"^([A-Z]\w+)?$", description='a scheduler class, as "LCMScheduler"')
]


class SystemTable(Table):
    """What every system has, painted or not."""

    key: Key
    label: str = Field(min_length=1, max_length=120, description="a text of 1 to 120 characters")
    licence: str = Field("", max_length=120, description="a text of at most 120 characters")


class Weights(Table):
    """A checkpoint and how often it is run."""

    checkpoint: str = Field(
        min_length=1,
        description='a name below the checkpoint folders, a path ("./..." or "/...") or a hub id '
        '("organisation/name")',
    )
    revision: Revision = ""
    variant: str = Field("", description='a text, as "fp16"')
    steps: int = Field(
        ge=1, le=TRAIN_STEPS, description=f"a whole number from 1 to {TRAIN_STEPS:,}"
    )
    guidance: float = Field(ge=0, le=100, description="a number from 0 to 100")


class StageTable(Weights):
    """[[systems.stages]]: what enlarges the image of the stage before fourfold."""

    branch: ClassVar = "stages"

    noise_level: int | None = Field(
        None, ge=0, lt=TRAIN_STEPS, description="a whole number from 0 to 999"
    )
    scheduler: Scheduler = ""


class PaintedSystem(SystemTable, Weights):
    """Everything that changes a pixel, whichever the family."""

    family: str
    size: Size
    dtype: Dtype = Field(description=_DTYPES)

    def recipe(self, folder: Path, *, pin: Callable[[str, str], str]) -> Recipe:
        """What the painter gets. `pin` finds a revision that the file leaves open, by the name and
        the value of a place, as ("unet", "org/unet")."""
        settings = _pinned(self.model_dump(exclude=NOT_PAINTED, exclude_defaults=True), folder, pin)
        stages = [
            _pinned(stage, folder, pin, f"stages {number}: ")
            for number, stage in enumerate(settings.pop("stages", ()), start=1)
        ]
        return Recipe.model_validate(
            settings
            | {"family": self.family, "stages": stages}
            | {"width": self.size[0], "height": self.size[1]}
        )

    def stated(self) -> dict[str, str]:
        """The revisions that the file gives, by their names in a recipe's places."""
        own = {
            field: getattr(self, revision_field(field), "")
            for field in ("checkpoint", *REPLACEABLE)
        }
        stages = enumerate(getattr(self, "stages", ()), start=1)
        return own | {f"stages {number}: checkpoint": stage.revision for number, stage in stages}


def _pinned(
    settings: dict[str, Any], folder: Path, pin: Callable[[str, str], str], prefix: str = ""
) -> dict[str, Any]:
    """The settings with absolute paths, and a revision for each place."""
    found = dict(settings)
    for field in ("checkpoint", *REPLACEABLE):
        if field not in settings:
            continue
        key = revision_field(field)
        found[field] = place_of(settings[field], folder)
        found[key] = settings.get(key) or pin(f"{prefix}{field}", found[field])
    return found


class _Sampled(PaintedSystem):
    """Families whose scheduler can be chosen, and whose parts can be replaced."""

    lora: Place = ""
    lora_revision: Revision = ""
    lora_scale: float | None = Field(None, ge=-10, le=10, description="a number from -10 to 10")
    vae: Place = ""
    vae_revision: Revision = ""
    vae_dtype: Literal["", "float32", "float16", "bfloat16"] = Field("", description=_DTYPES)
    scheduler: Scheduler = ""
    timestep_spacing: Literal["", "leading", "linspace", "trailing"] = Field(
        "", description='"leading", "linspace" or "trailing"'
    )
    timesteps: list[Annotated[int, Field(ge=0, lt=TRAIN_STEPS)]] = Field(
        [], description="a list of whole numbers from 0 to 999"
    )


class SdxlSystem(_Sampled):
    """A checkpoint in SDXL's format."""

    branch: ClassVar = "sdxl"

    family: Literal["sdxl"]
    unet: Place = ""
    unet_revision: Revision = ""


class DiffusersSystem(_Sampled):
    """Any checkpoint that diffusers paints from text."""

    branch: ClassVar = "diffusers"

    family: Literal["diffusers"]


class IfSystem(PaintedSystem):
    """DeepFloyd IF: a first stage, and one or two that enlarge its image."""

    branch: ClassVar = "deepfloyd-if"

    family: Literal["deepfloyd-if"]
    scheduler: Scheduler = ""
    stages: list[StageTable] = Field(
        min_length=1, max_length=2, description="one or two [[systems.stages]]"
    )


class AmusedSystem(PaintedSystem):
    """aMUSEd."""

    branch: ClassVar = "amused"

    family: Literal["amused"]


class ImportedSystem(SystemTable):
    """A folder of finished images with a manifest (metadata.jsonl or metadata.csv)."""

    branch: ClassVar = "imported"

    family: Literal["imported"]
    folder: str = Field(min_length=1, description="a path, relative to the study file")
    revision: Revision = ""

    def path(self, folder: Path) -> Path:
        return (folder / Path(self.folder).expanduser()).resolve()


SystemSpec = Annotated[
    SdxlSystem | IfSystem | AmusedSystem | DiffusersSystem | ImportedSystem,
    Field(discriminator="family", description="a family"),
]
