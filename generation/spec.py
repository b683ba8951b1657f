"""What to paint: a frozen recipe that names everything that changes a pixel. No Django, no torch.

A recipe, a prompt and a seed make an image; equal ones make equal images, whoever asks.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

COMMIT = re.compile(r"[0-9a-f]{40}")
CONTENT = re.compile(r"sha256:[0-9a-f]{64}")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FOLDER_NAME = re.compile(r"\w[\w.-]*")

MAX_SEED = 2**63 - 1
TRAIN_STEPS = 1000

# The schedulers that keep an image independent of its batch mates, and whether each accepts
# explicit timesteps. A test holds this table against diffusers.
SCHEDULERS = {
    "DDIMScheduler": False,
    "DDPMScheduler": True,
    "DPMSolverMultistepScheduler": True,
    "EulerAncestralDiscreteScheduler": True,  # through our own subclass: pipelines/schedulers.py
    "EulerDiscreteScheduler": True,
    "HeunDiscreteScheduler": True,
    "LCMScheduler": True,
    "PNDMScheduler": False,
    "TCDScheduler": True,
    "UniPCMultistepScheduler": False,
}

# Those that step where they were distilled to, whatever spacing their settings name.
SPACELESS = ("LCMScheduler", "TCDScheduler")

# Those that know of the variance which IF predicts beside the noise. The first is the checkpoints'
# own, and that of the published settings.
IF_SCHEDULERS = ("DDPMScheduler", "DPMSolverMultistepScheduler")

# What a recipe of each family may set beyond the fields that every one needs. A field that a
# family does not use is refused, so that no setting is written down and then ignored.
_SAMPLER = {"scheduler", "timestep_spacing", "timesteps"}
_PARTS = {"lora", "lora_revision", "lora_scale", "vae", "vae_revision", "vae_dtype"}
USES = {
    "sdxl": {"variant", "unet", "unet_revision", *_PARTS, *_SAMPLER},
    "deepfloyd-if": {"variant", "stages", "scheduler"},
    "amused": {"variant"},
    "diffusers": {"variant", *_PARTS, *_SAMPLER},
}
# What models do to finished pictures, and is never done to ours: see `pipelines.loading.OFF`.
LEFT_OUT = {"safety_checker": "off", "watermark": "off"}
PLACES = ("checkpoint", "unet", "lora", "vae")  # fields that name weights, each with its revision
MAX_STAGES = 2  # after the first
STAGE_FACTOR = 4  # each enlarges fourfold: 64, 256, 1024 pixels
WEIGHT_FILES = (".safetensors", ".json", ".txt", ".model")  # weights, settings, tokenizers


class Stage(BaseModel):
    """What enlarges the image of the stage before fourfold: another checkpoint, sampled on its own.

    `noise_level` is how much noise goes into the image to be enlarged, as a timestep; without it,
    the pipeline's own default. `scheduler` is a class of diffusers; empty: the checkpoint's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    checkpoint: str
    revision: str
    variant: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
    steps: Annotated[int, Field(ge=1, le=TRAIN_STEPS)]
    guidance: Annotated[float, Field(ge=0, le=100)]
    noise_level: Annotated[int, Field(ge=0, lt=TRAIN_STEPS)] | None = None
    scheduler: str = ""


class Place(NamedTuple):
    """A name of weights in a recipe: the field that holds it, and its revision."""

    field: str
    name: str
    revision: str


class Recipe(BaseModel):
    """Where the weights are, at which revision, and how they are sampled.

    `checkpoint` is a folder's name (looked up in CHECKPOINT_DIRS), an absolute path, or a hub id.
    `revision` pins its content: a hub commit (40 hex digits), or `folder_revision` of a folder.
    `unet` and `vae` replace the checkpoint's own (LCM-XL is SDXL base with another UNet), and
    `lora` is added into its weights, `lora_scale` times (once, if not said); same forms.
    `vae_dtype` decodes in another precision than `dtype`, and so changes pixels by rounding.
    `stages` are run after the checkpoint's own, and `width` and `height` are of the last image.
    An imported recipe paints nothing: its checkpoint is a folder with a manifest, its revision
    pins one system's rows and files (`generation.manifest`), and every sampling setting is empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: Literal["sdxl", "deepfloyd-if", "amused", "diffusers", "imported"]
    checkpoint: str
    revision: str
    # An empty value means "not set", and is left out of the digest: a field added later with an
    # empty default changes no digest. A default here must therefore never become a setting.
    variant: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
    unet: str = ""
    unet_revision: str = ""
    lora: str = ""
    lora_revision: str = ""
    lora_scale: Annotated[float, Field(ge=-10, le=10)] | None = None
    vae: str = ""
    vae_revision: str = ""
    vae_dtype: Literal["", "float32", "float16", "bfloat16"] = ""
    stages: tuple[Stage, ...] = ()
    scheduler: str = ""  # a class of diffusers; empty: the checkpoint's own
    timestep_spacing: Literal["", "leading", "linspace", "trailing"] = ""
    timesteps: tuple[Annotated[int, Field(ge=0, lt=TRAIN_STEPS)], ...] = ()
    steps: Annotated[int, Field(ge=0, le=TRAIN_STEPS)] = 0
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    width: Annotated[int, Field(ge=0, le=8192, multiple_of=8)] = 0
    height: Annotated[int, Field(ge=0, le=8192, multiple_of=8)] = 0
    dtype: Literal["", "float32", "float16", "bfloat16"] = ""

    @model_validator(mode="after")
    def _complete(self) -> "Recipe":
        problems = _imported_problems(self) if self.family == "imported" else _painted(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def digest(self) -> str:
        """The recipe's name: sha256 of its canonical JSON."""
        return _digest_of(self.model_dump(mode="json", exclude_defaults=True))

    def as_json(self) -> dict[str, Any]:
        """Every field, as stored in System.recipe and Image.recipe."""
        return self.model_dump(mode="json")

    def as_public_json(self) -> dict[str, Any]:
        """`as_json` for whoever sits at another machine: a folder goes by its own name, and its
        revision, which pins the content, says which folder of that name it was."""
        told = self.as_json()
        told |= {field: public_place(told[field]) for field in PLACES}
        stages = [
            stage | {"checkpoint": public_place(stage["checkpoint"])} for stage in told["stages"]
        ]
        return told | {"stages": stages}

    @property
    def places(self) -> list[Place]:
        """Everything that has to be found before this can be painted."""
        named = [Place(field, getattr(self, field), self._pin(field)) for field in PLACES]
        stages = [
            Place(f"stages {number}: checkpoint", stage.checkpoint, stage.revision)
            for number, stage in enumerate(self.stages, start=1)
        ]
        return [place for place in named if place.name or place.field == "checkpoint"] + stages

    def _pin(self, field: str) -> str:
        return str(getattr(self, revision_field(field)))


def places_of(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, revision) of all weights in a recipe's JSON, one stored before a field was added
    included."""
    named = [(recipe.get(field, ""), recipe.get(revision_field(field), "")) for field in PLACES]
    stages = [(stage["checkpoint"], stage["revision"]) for stage in recipe.get("stages", ())]
    return [(name, revision) for name, revision in (*named, *stages) if name]


def revision_field(field: str) -> str:
    """The key of the revision that pins what a field names."""
    return "revision" if field.endswith("checkpoint") else f"{field}_revision"


def pin_key(field: str) -> str:
    """Where the revision stands, in words: that of a stage with the stage's number."""
    stage, _, _ = field.rpartition("checkpoint")
    return f"{stage}{revision_field(field)}"


def _imported_problems(recipe: Recipe) -> list[str]:
    empty = {"family", "checkpoint", "revision"}
    problems = [
        f"{field}: an imported system is not painted, so leave this out"
        for field in recipe.model_fields_set - empty
        if getattr(recipe, field) != Recipe.model_fields[field].default
    ]
    if not CONTENT.fullmatch(recipe.revision):
        problems.append(
            "revision: an imported system is pinned by the content of its files, expected "
            f"sha256: and 64 hex digits, got {recipe.revision!r}"
        )
    return sorted(problems) + _place_problems("checkpoint", recipe.checkpoint, recipe.revision)


def _painted(recipe: Recipe) -> list[str]:
    problems = _foreign_fields(recipe)
    for place in recipe.places:
        problems += _place_problems(*place)
    for field in PLACES:
        if not getattr(recipe, field) and getattr(recipe, revision_field(field)):
            problems += _place_problems(field, "", getattr(recipe, revision_field(field)))
    expected = {
        "steps": "a number of steps, 1 or more",
        "guidance": "a number, 0 for none",
        "width": "pixels, a multiple of 8",
        "height": "pixels, a multiple of 8",
        "dtype": "float32, float16 or bfloat16",
    }
    problems += [
        f"{field}: missing, expected {what}"
        for field, what in expected.items()
        if getattr(recipe, field) == Recipe.model_fields[field].default
    ]
    if recipe.lora_scale is not None and not recipe.lora:
        problems.append("lora_scale: expected a lora beside it")
    return problems + _stage_problems(recipe) + _schedule_problems(recipe)


def _foreign_fields(recipe: Recipe) -> list[str]:
    optional = set().union(*USES.values())
    return [
        f"{field}: the family {recipe.family} does not use this, so leave it out"
        for field in sorted(optional - USES[recipe.family])
        if getattr(recipe, field) != Recipe.model_fields[field].default
    ]


def _stage_problems(recipe: Recipe) -> list[str]:
    if recipe.family != "deepfloyd-if":
        return []
    problems = if_scheduler_problems(recipe.scheduler)
    if not 1 <= len(recipe.stages) <= MAX_STAGES:
        problems.append(
            f"stages: {len(recipe.stages)} given, expected 1 or {MAX_STAGES} after the checkpoint's"
        )
    problems += [
        f"stages {number}: {problem}"
        for number, stage in enumerate(recipe.stages, start=1)
        for problem in _unknown_scheduler(stage.scheduler)
    ]
    unit = 8 * STAGE_FACTOR ** len(recipe.stages)
    problems += [
        f"{field}: expected a multiple of {unit}, since each stage enlarges {STAGE_FACTOR} times"
        for field in ("width", "height")
        if getattr(recipe, field) % unit
    ]
    return problems


def _place_problems(field: str, place: str, revision: str) -> list[str]:
    """A hub id goes with a commit, a folder with the hash of its content."""
    pin = pin_key(field)
    if HUB_ID.fullmatch(place):
        if is_commit(revision):
            return []
        return [
            f"{pin}: {place} is a hub id, expected its commit (40 hex digits; a branch or a tag "
            f"can move), got {revision!r}"
        ]
    if not FOLDER_NAME.fullmatch(place) and not Path(place).is_absolute():
        return [
            f"{field}: expected a folder's name, an absolute path or a hub id such as org/name, "
            f"got {place!r}"
        ]
    if not CONTENT.fullmatch(revision):
        return [
            f"{pin}: {place} is a folder, expected the hash of its content (sha256: and 64 hex "
            f"digits), got {revision!r}"
        ]
    return []


def _schedule_problems(recipe: Recipe) -> list[str]:
    problems = [] if recipe.family == "deepfloyd-if" else _unknown_scheduler(recipe.scheduler)
    if recipe.timestep_spacing and recipe.scheduler in SPACELESS:
        problems.append(f"timestep_spacing: {recipe.scheduler} has none, so leave it out")
    if not recipe.timesteps:
        return problems
    if len(recipe.timesteps) != recipe.steps:
        problems.append(
            f"timesteps: {len(recipe.timesteps)} given, expected as many as steps ({recipe.steps})"
        )
    if list(recipe.timesteps) != sorted(set(recipe.timesteps), reverse=True):
        problems.append("timesteps: expected from high to low, each once")
    if recipe.timestep_spacing:
        problems.append("timestep_spacing: timesteps already say which steps are taken")
    if not recipe.scheduler:
        problems.append("scheduler: explicit timesteps need a scheduler by name")
    elif not SCHEDULERS.get(recipe.scheduler, True):
        problems.append(f"timesteps: {recipe.scheduler} does not accept explicit ones")
    return problems


def if_scheduler_problems(name: str) -> list[str]:
    """Why IF's own models cannot be sampled with this scheduler."""
    if not name or name in IF_SCHEDULERS:
        return []
    expected = " or ".join(IF_SCHEDULERS)
    return [f"scheduler: IF predicts a variance, which {name!r} does not take; expected {expected}"]


def _unknown_scheduler(name: str) -> list[str]:
    if not name or name in SCHEDULERS:
        return []
    return [f"scheduler: {name!r} is not known, expected one of {', '.join(SCHEDULERS)}"]


def public_place(place: str) -> str:
    """A checkpoint without this machine's folders: the last part of an absolute path."""
    return Path(place).name if Path(place).is_absolute() else place


def is_commit(revision: str) -> bool:
    """Whether a revision is a hub commit (else it is the hash of a folder's content)."""
    return COMMIT.fullmatch(revision) is not None


def image_digest(recipe: Recipe, prompt: str, seed: int) -> str:
    """The name of one image: equal for equal recipe, prompt and seed, in whichever study."""
    return _digest_of({"recipe": recipe.digest, "prompt": prompt, "seed": seed})


def _digest_of(value: dict[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def find_checkpoint(name: str, folders: Iterable[Path]) -> Path | None:
    """The folder of a checkpoint: an absolute path itself, a name in the first that has it."""
    if Path(name).is_absolute():
        return Path(name) if Path(name).is_dir() else None
    if not FOLDER_NAME.fullmatch(name):
        return None
    return next((folder / name for folder in folders if (folder / name).is_dir()), None)


def folder_revision(folder: Path) -> str:
    """`sha256:` and the hash of a folder's weights, settings and tokenizers.

    Hidden files and folders (a downloader's notes) and readmes are left out: they change no pixel.
    """
    total = hashlib.sha256()
    for relative in sorted(_weight_files(folder)):
        status = (folder / relative).stat()
        content = _file_sha256(folder / relative, status.st_size, status.st_mtime_ns)
        total.update(f"{relative}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _weight_files(folder: Path) -> Iterable[str]:
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix in WEIGHT_FILES and not hidden and path.is_file():
            yield relative.as_posix()


@cache
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Gigabytes are read once: the size and time of change are the rest of the cache's key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
