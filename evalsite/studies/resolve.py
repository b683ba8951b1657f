"""From a checked study file to all that its rows need, or the list of what is missing.

Prompts are read and drawn, checkpoints found, revisions pinned by content. Nothing is written.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evalsite.studies.catalogue import gate_problems
from evalsite.studies.prompts import PromptFileError, PromptRow, read_prompts
from evalsite.studies.spec import PromptFile, StudySpec
from evalsite.studies.spec_problems import Sound, recipe_problems, recipe_words, unpinned
from evalsite.studies.spec_systems import ImportedSystem, PaintedSystem
from generation.manifest import ImportedImage, ManifestError, read_manifest
from generation.services import preflight
from generation.spec import HUB_ID, Recipe, find_checkpoint, folder_revision, pin_key
from generation.weights import absent


class Unpinned(Exception):
    """Revisions that cannot be found; each problem says what to do."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class ResolvedSystem:
    """A system of the file and the recipe it comes to. `problems` stop it from being applied;
    `missing` only stops it from being painted on this machine."""

    key: str
    label: str
    licence: str
    recipe: Recipe | None
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    sizes: frozenset[tuple[int, int]] = frozenset()  # of its images, width and height


@dataclass(frozen=True)
class Resolved:
    """A study file with everything that it names looked up."""

    spec: StudySpec
    systems: tuple[ResolvedSystem, ...]
    prompts: tuple[PromptRow, ...]
    prompt_source: dict[str, Any] = field(default_factory=dict)
    prompt_problems: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """What must be settled before the file can be applied."""
        of_systems = [f"{s.key}: {text}" for s in self.systems for text in s.problems]
        return [*self.prompt_problems, *of_systems]

    @property
    def missing(self) -> list[str]:
        """What must be settled before images can be painted here."""
        return [f"{s.key}: {text}" for s in self.systems for text in s.missing]

    @property
    def notes(self) -> list[str]:
        """What stops nothing, and is worth a look before raters come."""
        return _shape_note(self.systems, self.spec.display.size)

    @property
    def n_pairs(self) -> int:
        keys = [system.key for system in self.systems]
        return len(planned_pairs(keys, self.spec.baseline))

    @property
    def n_comparisons(self) -> int:
        return self.n_pairs * len(self.prompts)

    @property
    def n_votes(self) -> int:
        return self.n_comparisons * self.spec.votes_per_comparison * len(self.spec.criteria)


def planned_pairs(keys: Sequence[str], baseline: str = "") -> list[tuple[str, str]]:
    """Every two systems, or each against the baseline; always in study order."""
    pairs = combinations(keys, 2)
    return [pair for pair in pairs if not baseline or baseline in pair]


def _shape_note(systems: Iterable[ResolvedSystem], box: int) -> list[str]:
    """One line when the systems' images differ in shape, as they stand in the box that raters see:
    margins that come with one system only tell it from the others."""

    def in_box(size: tuple[int, int]) -> tuple[int, int]:
        width, height = (round(side * box / max(size)) for side in size)
        return width, height

    shapes = {s.key: frozenset(map(in_box, s.sizes)) for s in systems if s.sizes}
    if len(set(shapes.values())) < 2:
        return []
    named = [
        f"{key} {'{} x {}'.format(*min(seen)) if len(seen) == 1 else f'{len(seen)} shapes'}"
        for key, seen in shapes.items()
    ]
    return [
        f"shapes differ in the box of {box} x {box} pixels: {', '.join(named)}; "
        "raters can tell the systems apart by their margins"
    ]


def resolve(spec: StudySpec, *, checkpoint_dirs: Iterable[Path]) -> Resolved:
    """Look up everything that a study file names."""
    folders = list(checkpoint_dirs)
    prompts, source, problems = read_prompts_of(spec)
    texts = [row.text for row in prompts]
    return Resolved(
        spec=spec,
        systems=_told_apart(
            [resolve_system(system, spec.folder, folders, texts) for system in spec.systems]
        ),
        prompts=tuple(prompts),
        prompt_source=source,
        prompt_problems=tuple(problems),
    )


def _told_apart(systems: Iterable[ResolvedSystem]) -> tuple[ResolvedSystem, ...]:
    """The systems, with a problem of each whose recipe an earlier one has: of these two raters
    would be shown the same image beside itself. Imported ones of other folders are others."""
    first: dict[str, str] = {}  # recipe digest -> key
    told = []
    for system in systems:
        same = first.setdefault(system.recipe.digest, system.key) if system.recipe else system.key
        if same != system.key:
            problem = (
                f'"{same}" and "{system.key}" have the same recipe: raters would see the same '
                "image twice"
            )
            system = replace(system, problems=(*system.problems, problem))
        told.append(system)
    return tuple(told)


def problems_of(sound: Sound, *, checkpoint_dirs: Iterable[Path]) -> list[str]:
    """What else is wrong or missing of a study file with problems, as far as its sound parts tell:
    of its prompts where nothing is wrong with them, and of each system that is sound. Which prompts
    a faulty seed would draw is not known, so no image is missed for them."""
    spec, folders = sound.spec, list(checkpoint_dirs)
    rows, told = list[PromptRow](), list[str]()
    if "prompts" not in sound.faulty:
        rows, _, told = read_prompts_of(spec)
    is_drawn = isinstance(spec.prompts, PromptFile) and spec.prompts.draw is not None
    texts = [] if is_drawn and "seed" in sound.faulty else [row.text for row in rows]
    systems = [
        resolve_system(system, spec.folder, folders, texts)
        for system in spec.systems
        if "systems" in sound.faulty or not recipe_problems(system, spec.folder)  # told already
    ]
    found = Resolved(spec, _told_apart(systems), tuple(rows), prompt_problems=tuple(told))
    return [*found.problems, *found.missing]


def read_prompts_of(spec: StudySpec) -> tuple[list[PromptRow], dict[str, Any], list[str]]:
    """A study's prompts, drawn; where they come from; and what is wrong with their file."""
    if not isinstance(spec.prompts, PromptFile):
        rows = [PromptRow(p.text, p.category, p.challenge) for p in spec.prompts]
        return rows, {"file": spec.name}, []
    path = (spec.folder / Path(spec.prompts.file).expanduser()).resolve()
    try:
        rows = read_prompts(path, spec.prompts.query, seed=spec.seed)
    except PromptFileError as error:
        return [], {}, error.problems
    settings = spec.prompts.model_dump(exclude_defaults=True, exclude={"file"})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return rows, {"file": path.name, "sha256": sha256, **settings}, []


def resolve_system(
    system: PaintedSystem | ImportedSystem, folder: Path, folders: list[Path], texts: list[str]
) -> ResolvedSystem:
    """Look up what one system names; `folder` is what its paths are relative to."""
    problems = [] if system.licence else ["licence: expected the licence of its images or weights"]
    recipe, sizes = None, set[tuple[int, int]]()
    try:
        if isinstance(system, ImportedSystem):
            recipe, sizes, more = _imported_recipe(system, folder, texts)
            problems += more
        else:
            sizes = {(system.size[0], system.size[1])}
            recipe = _painted_recipe(system, folder, folders)
    except Unpinned as error:
        problems += error.problems
    except (ValidationError, ManifestError) as error:
        problems += recipe_words(error) if isinstance(error, ValidationError) else error.problems
    missing = tuple(missing_for(recipe)) if recipe else ()
    return ResolvedSystem(
        key=system.key,
        label=system.label,
        licence=system.licence,
        recipe=recipe,
        problems=tuple(problems),
        missing=missing,
        sizes=frozenset(sizes),
    )


def missing_for(recipe: Recipe) -> list[str]:
    """What keeps a recipe from being painted on this machine, and what to do before weights that
    are not here can be fetched."""
    return [*preflight(recipe), *gate_problems(absent(recipe))]


def _painted_recipe(system: PaintedSystem, folder: Path, folders: list[Path]) -> Recipe:
    """The recipe with its revisions pinned; a revision that is stated must be the content's.
    Raises Unpinned with the problems of all its places."""
    problems: list[str] = []

    def pin(named: str, place: str) -> str:
        try:
            return _revision(named, place, folders)
        except Unpinned as error:
            problems.extend(error.problems)
            return unpinned(named, place)

    recipe = system.recipe(folder, pin=pin)
    stated = system.stated()
    for named, place, revision in recipe.places:
        if not stated[named] or HUB_ID.fullmatch(place):
            continue
        held = pin(named, place)
        if held not in (revision, unpinned(named, place)):  # the latter: it is not there at all
            key = pin_key(named)
            problems.append(f"{key}: the study file says {revision}, but {place} holds {held}")
    if problems:
        raise Unpinned(*problems)
    return recipe


def _revision(named: str, place: str, folders: list[Path]) -> str:
    """What a place that the file leaves open is pinned to."""
    if HUB_ID.fullmatch(place):
        raise Unpinned(
            f"{pin_key(named)}: not pinned; write the commit of {place} (40 hexadecimal digits, "
            f"from https://huggingface.co/{place}/commits/main) into the study file"
        )
    path = find_checkpoint(place, folders)
    if path is None:
        looked = ", ".join(str(folder) for folder in folders)
        where = "" if Path(place).is_absolute() else f" in {looked}"
        raise Unpinned(f"{named}: there is no folder {place}{where}")
    return folder_revision(path)


def _imported_recipe(
    system: ImportedSystem, folder: Path, texts: list[str]
) -> tuple[Recipe, set[tuple[int, int]], list[str]]:
    """The recipe, the sizes of the images that answer these prompts, and what lacks."""
    path = system.path(folder)
    if not path.is_dir():
        raise Unpinned(f"folder: there is no folder {path}; put its images and manifest there")
    manifest = read_manifest(path)
    if not manifest.of_system(system.key):
        named = ", ".join(manifest.systems)
        raise Unpinned(f'{manifest.path.name}: no row has system "{system.key}"; found {named}')
    revision = manifest.revision(system.key)
    if system.revision and system.revision != revision:
        raise Unpinned(
            f"revision: the study file says {system.revision}, but the folder holds {revision}"
        )
    recipe = Recipe(family="imported", checkpoint=str(path), revision=revision)
    images = answers(manifest.of_system(system.key))
    sizes = {images[text].size for text in texts if text in images}
    return recipe, sizes, lacking(images, texts)


def answers(images: Iterable[ImportedImage], sample: int = 0) -> dict[str, ImportedImage]:
    """Prompt -> image, spaces around a prompt not counting."""
    return {image.prompt.strip(): image for image in images if image.sample == sample}


def lacking(images: dict[str, ImportedImage], texts: Iterable[str]) -> list[str]:
    """One line when some prompts have no image, naming the first few."""
    without = [text for text in texts if text not in images]
    if not without:
        return []
    named = "; ".join(f'"{text[:60]}"' for text in without[:3])
    more = f" and {len(without) - 3} more" if len(without) > 3 else ""
    return [f"no image (sample 0) for {len(without)} of the study's prompts: {named}{more}"]
