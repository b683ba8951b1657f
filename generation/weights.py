"""Where a recipe's weights lie on this machine, and whether they are the ones it names.

Read before a study is painted, to say what is missing, and again by the worker that loads them.
No Django, no torch.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from generation.manifest import ManifestError, read_manifest
from generation.spec import Recipe, find_checkpoint, folder_revision, is_commit

MODELS = ("unet", "vae", "text_encoder", "text_encoder_2")


class WeightsError(ValueError):
    """Weights that are not there, or not the ones that the recipe names."""


@dataclass(frozen=True)
class Weights:
    """What to load: a folder on this machine, or a hub id (at the recipe's commit)."""

    checkpoint: str
    unet: str  # empty: the checkpoint's own


def locate(recipe: Recipe, folders: Sequence[Path]) -> Weights:
    """Find a recipe's weights and hold them against its revision. Raises WeightsError."""
    places = {"checkpoint": recipe.checkpoint, "unet": recipe.unet}
    pins = {"checkpoint": recipe.revision, "unet": recipe.unet_revision}
    for field, place in places.items():
        if not place or is_commit(pins[field]):
            continue
        folder = _folder(field, place, folders)
        _check_revision(field, folder, pins[field])
        places[field] = str(folder)
    return Weights(**places)


def problems(recipe: Recipe, folders: Sequence[Path]) -> list[str]:
    """What keeps this recipe from being painted here, in words; empty when nothing does."""
    if recipe.family == "imported":
        return _import_problems(recipe, folders)
    found = _model_problems(
        "checkpoint", recipe.checkpoint, recipe.revision, recipe.variant, folders, recipe.unet
    )
    if recipe.unet:
        found += _model_problems("unet", recipe.unet, recipe.unet_revision, recipe.variant, folders)
    return found


def _folder(field: str, name: str, folders: Sequence[Path]) -> Path:
    folder = find_checkpoint(name, folders)
    if folder is None:
        looked = name if Path(name).is_absolute() else ", ".join(str(one) for one in folders)
        raise WeightsError(f"{field} {name}: no such folder; looked in {looked}")
    return folder


def _check_revision(field: str, folder: Path, expected: str) -> None:
    actual = folder_revision(folder)
    if actual != expected:
        raise WeightsError(
            f"{field}: the content of {folder} is {actual}, the recipe names {expected}: "
            "the files were changed, or these are others"
        )


def _model_problems(
    field: str,
    name: str,
    revision: str,
    variant: str,
    folders: Sequence[Path],
    replaced_unet: str = "",
) -> list[str]:
    try:
        if is_commit(revision):
            folder = _snapshot(field, name, revision, variant)
        else:
            folder = _folder(field, name, folders)
            _check_revision(field, folder, revision)
        parts = [Path("unet" if (folder / "unet").is_dir() else ".")]
        if field == "checkpoint":
            parts = [Path(part) for part in _parts(folder) if part != "unet" or not replaced_unet]
        return [
            problem for part in parts if (problem := _file_problem(field, folder / part, variant))
        ]
    except WeightsError as error:
        return [str(error)]


def _parts(folder: Path) -> Iterable[str]:
    """The models that a pipeline's folder says it is made of."""
    index = folder / "model_index.json"
    try:
        names = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"checkpoint: {index} cannot be read; expected a folder in diffusers' own format"
        ) from error
    kind = str(names.get("_class_name", ""))
    if not kind.startswith("StableDiffusionXL"):
        raise WeightsError(
            f"checkpoint: {folder} holds a {kind or 'nameless pipeline'}, "
            "the family sdxl paints with StableDiffusionXLPipeline"
        )
    return [part for part in MODELS if (names.get(part) or [None])[0]]


def _file_problem(field: str, folder: Path, variant: str) -> str:
    files = [path.name for path in folder.glob("*.safetensors")]
    mark = f".{variant}." if variant else ""
    if any(mark in name if mark else name.count(".") == 1 for name in files):
        return ""
    what = f"*.{variant}.safetensors" if variant else "*.safetensors"
    there = ", ".join(sorted(files)) or "none (pickled weights are not loaded)"
    hint = "; set variant" if files and not variant else ""
    return f"{field}: expected {what} in {folder}, found {there}{hint}"


def _snapshot(field: str, repository: str, commit: str, variant: str) -> Path:
    """A hub repository at one commit, as the hub's own tools cache it."""
    cache = _hub_cache()
    folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / commit
    if folder.is_dir():
        return folder
    weights = f"*.{variant}.safetensors" if variant else "*.safetensors"
    wanted = f"*/{weights}" if field == "checkpoint" else weights
    raise WeightsError(
        f"{field} {repository} at {commit} is not in this machine's hub cache ({cache}). "
        "Weights of this kind are large (SDXL in fp16: about 7 GB), and some ask for a licence "
        f"to be accepted on https://huggingface.co/{repository} first. Download them with: "
        f"hf download {repository} --revision {commit} "
        f"--include '*.json' --include '*.txt' --include '{wanted}'"
    )


def _hub_cache() -> Path:
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
