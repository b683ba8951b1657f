"""Which schedule a recipe may ask of a checkpoint, told from the settings of the checkpoint's own
scheduler. No torch.

Schedulers read each other's settings, and pass over those that they do not have: a model that was
trained to follow a flow paints noise, without an error, with a scheduler that steps through
another kind of noise.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generation.spec import SPACELESS, Recipe

# Of those that a recipe may name: they follow a flow where the settings say so.
FLOWING = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")


def schedule_problems(recipe: Recipe, own: str, settings: Mapping[str, Any]) -> list[str]:
    """Why a checkpoint, with a scheduler of class `own`, cannot be sampled as its recipe says."""
    is_flow_match = own.startswith("FlowMatch")
    is_flow = is_flow_match or settings.get("prediction_type") == "flow_prediction"
    problems = []
    if recipe.scheduler and is_flow and (is_flow_match or recipe.scheduler not in FLOWING):
        problems.append(
            f"scheduler: this model follows a flow with its own {own}, which {recipe.scheduler} "
            "does not; leave it out"
        )
    if recipe.timestep_spacing and not recipe.scheduler and (is_flow_match or own in SPACELESS):
        problems.append(f"timestep_spacing: the checkpoint's own {own} has none; leave it out")
    return problems


def read_settings(folder: Path) -> dict[str, Any]:
    """A scheduler's settings; none where they cannot be read, which is said elsewhere."""
    try:
        found = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
