"""Where a recipe's weights lie on this machine, and whether they are the ones it names.

Read before a study is painted, to say what is missing, and again by the worker that loads them.
No Django, no torch.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from generation.decoders import vae_problems
from generation.headers import file_problem, lora_problem, split_problems
from generation.manifest import ManifestError, read_manifest
from generation.schedules import read_settings, schedule_problems
from generation.spec import (
    PLACES,
    Place,
    Recipe,
    Stage,
    find_checkpoint,
    folder_revision,
    if_scheduler_problems,
    is_commit,
)

# How the class that a checkpoint's index names must begin. `diffusers` takes what has weights.
PIPELINES = {
    "sdxl": ("StableDiffusionXLPipeline",),
    "deepfloyd-if": ("IFPipeline",),
    "stages": ("IFSuperResolutionPipeline", "StableDiffusionUpscalePipeline"),
    "amused": ("AmusedPipeline",),
    "diffusers": ("",),
}
# Parts of a pipeline without weights, or that are never loaded: see `pipelines.loading.OFF`.
NO_WEIGHTS = (
    "scheduler",
    "low_res_scheduler",
    "image_noising_scheduler",
    "tokenizer",
    "feature_extractor",
    "image_processor",
    "safety_checker",
    "watermarker",
)
# Of these at least their settings are loaded, and of most tokenizers a list of words.
SETTINGS = ("scheduler", "low_res_scheduler", "image_noising_scheduler", "tokenizer")
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")  # in the name of one of a model's several files
MAX_SHOWN = 500  # characters of a problem with names that are too long
LORA_FILE = "pytorch_lora_weights.safetensors"  # the name that diffusers' own tools give


class WeightsError(ValueError):
    """Weights that are not there, or not the ones that the recipe names."""


@dataclass(frozen=True)
class Weights:
    """What to load: a folder on this machine, or a hub id (at the recipe's commit)."""

    checkpoint: str
    unet: str = ""  # empty: the checkpoint's own
    lora: str = ""  # empty: none
    vae: str = ""  # empty: the checkpoint's own
    stages: tuple[str, ...] = ()


def locate(recipe: Recipe, folders: Sequence[Path]) -> Weights:
    """Find a recipe's weights and hold them against its revision. Raises WeightsError."""
    found = {place.field: _found(place, folders) for place in recipe.places}
    stages = tuple(where for field, where in found.items() if field not in PLACES)
    return Weights(
        **{field: where for field, where in found.items() if field in PLACES}, stages=stages
    )


def _found(place: Place, folders: Sequence[Path]) -> str:
    if is_commit(place.revision):
        return place.name
    folder = _folder(place.field, place.name, folders)
    _check_revision(place.field, folder, place.revision)
    return str(folder)


def problems(recipe: Recipe, folders: Sequence[Path]) -> list[str]:
    """What keeps this recipe from being painted here, in words; empty when nothing does."""
    if recipe.family == "imported":
        return _import_problems(recipe, folders)
    found = []
    for place in recipe.places:
        found += _place_problems(recipe, place, folders)
    return found


def absent(recipe: Recipe) -> list[str]:
    """The hub ids of a recipe that this machine's cache does not hold at their commit."""
    return [
        place.name
        for place in recipe.places
        if is_commit(place.revision) and not _cached(place).is_dir()
    ]


def _folder(field: str, name: str, folders: Sequence[Path]) -> Path:
    folder = find_checkpoint(name, folders)
    if folder is None:
        looked = ", ".join(dict.fromkeys(str(one) for one in folders))
        where = "" if Path(name).is_absolute() else f"; looked in {looked}"
        raise WeightsError(f"{field} {name}: no such folder{where}")
    return folder


def _where(place: Place, folders: Sequence[Path]) -> Path:
    """Where weights lie, or would."""
    if is_commit(place.revision):
        return _cached(place)
    return find_checkpoint(place.name, folders) or Path(place.name)


def _check_revision(field: str, folder: Path, expected: str) -> None:
    actual = folder_revision(folder)
    if actual != expected:
        raise WeightsError(
            f"{field}: the content of {folder} is {actual}, the recipe names {expected}: "
            "the files were changed, or these are others"
        )


def _place_problems(recipe: Recipe, place: Place, folders: Sequence[Path]) -> list[str]:
    variant = _variant(recipe, place)
    try:
        if is_commit(place.revision):
            folder = _snapshot(place, variant)
        else:
            folder = _folder(place.field, place.name, folders)
            _check_revision(place.field, folder, place.revision)
        if place.field == "lora":
            return _lora_problems(folder)
        found: list[str] = []
        if place.field in PLACES[1:]:
            parts = [part_subfolder(place.field, folder) or "."]
            variant = part_variant(folder / parts[0], variant)
        else:
            parts, found = _parts(recipe, place, folder)
        if place.field == "vae":
            own = _where(recipe.places[0], folders)
            found += [f"vae: {told}" for told in vae_problems(folder / parts[0], own / "vae")]
        return found + [
            problem
            for part in parts
            for problem in _file_problems(place.field, folder / part, variant)
        ]
    except WeightsError as error:
        return [str(error)]
    except OSError as error:  # an index may name a part, or its code, that no file can be called
        return [f"{place.field} {place.name}: cannot be looked into: {error}"[:MAX_SHOWN]]


def part_subfolder(part: str, folder: Path) -> str:
    """Where in a folder, perhaps a whole checkpoint, the part lies that replaces another's."""
    return part if (folder / part).is_dir() else ""


def part_variant(folder: Path, variant: str) -> str:
    """In which variant the files of such a part come: the checkpoint's, unless there are plain ones
    alone."""
    names = [path.name for path in folder.glob("*.safetensors")]
    plain_alone = names and not any(_is_variant(name, variant) for name in names)
    return "" if plain_alone and any(_is_variant(name, "") for name in names) else variant


def _variant(recipe: Recipe, place: Place) -> str:
    """A stage has its own files; whatever replaces a part takes after the checkpoint."""
    if place.field in PLACES:
        return recipe.variant
    return _stage(recipe, place).variant


def _stage(recipe: Recipe, place: Place) -> Stage:
    return next(stage for stage in recipe.stages if stage.checkpoint == place.name)


def _parts(recipe: Recipe, place: Place, folder: Path) -> tuple[list[str], list[str]]:
    """The models that a pipeline's folder says it is made of, and that are loaded from it; and what
    lacks of its other parts."""
    kind, known = _read_index(place.field, folder)
    expected = PIPELINES[recipe.family if place.field == "checkpoint" else "stages"]
    if not kind.startswith(expected):
        raise WeightsError(
            f"{place.field}: {folder} holds a {kind}, "
            f"the family {recipe.family} paints with {' or '.join(expected)}"
        )
    unused = {field for field in ("unet", "vae") if getattr(recipe, field)}
    if kind == "IFSuperResolutionPipeline":
        unused = {"text_encoder", "tokenizer"}  # the first stage's embeddings are handed on
        for problem in if_scheduler_problems(_stage(recipe, place).scheduler):
            raise WeightsError(f"{place.field.removesuffix('checkpoint')}{problem}")
    kinds = {part: name for part, (_, name) in known.items() if part not in unused}
    lacking = [
        f"{place.field}: {folder / part / library}.py: code of a checkpoint's own is not run"
        for part, (library, _) in known.items()
        if (folder / part / f"{library}.py").is_file()
    ]
    lacking += [
        f"{place.field}: {problem}"
        for part, kind in kinds.items()
        if part.startswith(SETTINGS) and (problem := _settings_problem(folder / part, kind))
    ]
    if place.field == "checkpoint" and "scheduler" in kinds:
        settings = read_settings(folder / "scheduler")
        lacking += schedule_problems(recipe, kinds["scheduler"], settings)
    return [part for part in kinds if not part.startswith(NO_WEIGHTS)], lacking


def _read_index(field: str, folder: Path) -> tuple[str, dict[str, tuple[str, str]]]:
    """The pipeline that a folder is of, and the library and class of every part that is there."""
    index = folder / "model_index.json"
    try:
        told = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        told = None
    kind = told.get("_class_name") if isinstance(told, dict) else None
    if not isinstance(kind, str) or not kind:
        raise WeightsError(
            f"{field}: {index} cannot be read, or names no pipeline; expected a folder in "
            "diffusers' own format"
        )
    pairs = {part: pair for part, pair in told.items() if isinstance(pair, list) and len(pair) == 2}
    return kind, {part: (str(one), str(other)) for part, (one, other) in pairs.items() if one}


def _settings_problem(folder: Path, kind: str) -> str:
    """A download of weights alone leaves these out."""
    if not any(folder.glob("*.json")):
        return f"expected a {kind}'s settings (*.json) in {folder}, found none"
    if not folder.name.startswith("tokenizer") or kind.startswith("ByT5"):
        return ""
    if any(path.is_file() for name in VOCABULARIES for path in folder.glob(name)):
        return ""
    return f"expected a {kind}'s words ({' or '.join(VOCABULARIES)}) in {folder}, found none"


def _lora_problems(folder: Path) -> list[str]:
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if files != [LORA_FILE]:
        there = ", ".join(files) or "none (pickled weights are not loaded)"
        return [f"lora: expected {LORA_FILE} alone in {folder}, found {there}"]
    problem = lora_problem(folder / LORA_FILE)
    return [f"lora: {problem}"] if problem else []


def _file_problems(field: str, folder: Path, variant: str) -> list[str]:
    """What lacks of the files that hold one model; of a model in several files, each by name."""
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    usable = [name for name in files if _is_variant(name, variant)]
    if not usable:
        what = f"*.{variant}.safetensors" if variant else "*.safetensors"
        there = ", ".join(files) or "none (pickled weights are not loaded)"
        hint = "; set variant" if files and not variant else ""
        return [f"{field}: expected {what} in {folder}, found {there}{hint}"]
    indexes = sorted(path for path in folder.glob("*.json") if _is_index(path.name, variant))
    if indexes:
        return [f"{field}: {problem}" for problem in split_problems(indexes[0])]
    if all(SHARD.search(name) for name in usable):
        index = f"*.safetensors.index.{variant}.json" if variant else "*.safetensors.index.json"
        there = ", ".join(usable)
        return [f"{field}: expected {index} in {folder}, which says what is in {there}"]
    return [f"{field}: {problem}" for name in usable if (problem := file_problem(folder / name))]


def _is_variant(file: str, variant: str) -> bool:
    """A model in several files is called name.fp16-00001-of-00002.safetensors."""
    if not variant:
        return file.count(".") == 1
    return f".{variant}." in file or f".{variant}-" in file


def _is_index(file: str, variant: str) -> bool:
    """The names that diffusers and transformers look for; a variant stood elsewhere at first."""
    after = [f".index.{variant}.json", f".{variant}.index.json"] if variant else [".index.json"]
    return file.partition(".safetensors")[2] in after


def _snapshot(place: Place, variant: str) -> Path:
    """A hub repository at one commit, as the hub's own tools cache it."""
    field, repository, commit = place
    folder = _cached(place)
    if folder.is_dir():
        return folder
    wanted = f"*.{variant}*.safetensors" if variant else "*.safetensors"
    if field == "lora":
        wanted = LORA_FILE
    elif field.endswith("checkpoint"):  # beside its parts lies the whole of it in one file
        wanted = f"*/{wanted}"
    files = ("*.json", "*.txt", "*.model", wanted)  # settings, both kinds of tokenizer, weights
    raise WeightsError(
        f"{field} {repository} at {commit} is not in this machine's hub cache ({hub_cache()}). "
        f"Download: hf download {repository} --revision {commit} "
        + " ".join(f"--include '{pattern}'" for pattern in files)
    )


def _cached(place: Place) -> Path:
    return snapshot(place.name, place.revision)


def snapshot(repository: str, commit: str) -> Path:
    """Where the hub's own tools keep a repository at a commit, or would."""
    return hub_cache() / f"models--{repository.replace('/', '--')}" / "snapshots" / commit


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads: its own variables, in its own order."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    shared = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(home or f"{shared}/huggingface").expanduser() / "hub"


def _import_problems(recipe: Recipe, folders: Sequence[Path]) -> list[str]:
    try:
        manifest = read_manifest(_folder("checkpoint", recipe.checkpoint, folders))
    except WeightsError as error:
        return [str(error)]
    except ManifestError as error:
        return error.problems
    revisions = {system: manifest.revision(system) for system in manifest.systems}
    if recipe.revision in revisions.values():
        return []
    listed = ", ".join(f"{system} is {revision}" for system, revision in revisions.items())
    return [
        f"revision: no system of {manifest.path} has content {recipe.revision} ({listed}): "
        "the files were changed, or these are others"
    ]
