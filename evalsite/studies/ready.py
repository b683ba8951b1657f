"""Whether a ready system can be painted on this machine, before anything is downloaded."""

from collections.abc import Iterable
from pathlib import Path

from evalsite.studies.catalogue import Entry, gate_problems
from evalsite.studies.resolve import resolve_system
from evalsite.studies.spec_systems import ImportedSystem
from generation import machine, weights

GB = 10**9


def obstacles(
    entry: Entry, *, folder: Path, checkpoint_dirs: Iterable[Path], device: str
) -> list[str]:
    """What stands in the way, each in words with what to do; empty when nothing does.

    `folder` is what the paths of an imported system are relative to.
    """
    found = resolve_system(entry.system, folder, list(checkpoint_dirs), [])
    problems = [*found.problems, *found.missing]
    if isinstance(entry.system, ImportedSystem):
        if not problems:
            return []
        return [f"{entry.key} can only be imported: {entry.about.import_reason}", *problems]
    if found.recipe:
        missing = weights.absent(found.recipe)
    else:
        missing = _on_hub(entry)
        problems += gate_problems(missing)
    return problems + _disk_problems(entry, missing) + _memory_problems(entry, device)


def _on_hub(entry: Entry) -> list[str]:
    """Of a system that is not pinned yet nothing counts as there."""
    return [place for place in entry.weights if "/" in place]


def _disk_problems(entry: Entry, missing: Iterable[str]) -> list[str]:
    needed = sum(entry.weights[place].disk_gb for place in missing)
    cache = weights.hub_cache()
    free = machine.disk_free(cache) / GB
    if needed <= free:
        return []
    return [
        f"the missing weights take {needed:.1f} GB, and {cache} has {free:.1f} GB free; free some, "
        "or set HF_HOME to a folder on another disk"
    ]


def _memory_problems(entry: Entry, device: str) -> list[str]:
    need = entry.about.memory_gb
    if problem := machine.device_problem(device):
        return [problem]
    memory = machine.device_memory(device)
    if memory is None:
        return [f"PAINTING_DEVICE: {device} is not among what nvidia-smi lists; set another"]
    if need * GB <= memory.total:
        return []
    return [
        f"it needs about {need:g} GB of memory ({entry.about.memory_source}); {memory.device} has "
        f"{memory.total / GB:.1f} GB. Set PAINTING_DEVICE, or paint on another machine"
    ]
