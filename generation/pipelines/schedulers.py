"""Which moments are stepped through, and two schedulers that diffusers does not have."""

from collections.abc import Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AmusedScheduler, EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_amused import AmusedSchedulerOutput

from generation.schedules import schedule_problems
from generation.spec import Recipe


def scheduler_of(recipe: Recipe, own: Any) -> Any:
    """The recipe's scheduler, with the settings of the checkpoint's own. Raises ValueError where
    these do not go together."""
    if wrong := schedule_problems(recipe, type(own).__name__, own.config):
        raise ValueError("; ".join(wrong))
    kind = getattr(diffusers, recipe.scheduler) if recipe.scheduler else type(own)
    if recipe.timesteps and kind is EulerAncestralDiscreteScheduler:
        kind = ExplicitEulerAncestral
    spacing = {"timestep_spacing": recipe.timestep_spacing} if recipe.timestep_spacing else {}
    return kind.from_config(own.config, **spacing)


class ExplicitEulerAncestral(EulerAncestralDiscreteScheduler):  # type: ignore[misc]
    """Euler ancestral at timesteps of one's choice, which diffusers offers for Euler alone.

    SDXL Turbo's own demonstration takes 999, 899, 799, 699: no spacing gives these.
    """

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: list[int] | None = None,
    ) -> None:
        super().set_timesteps(num_inference_steps or len(timesteps or ()), device)
        if timesteps is None:
            return
        sigmas = np.array(((1 - self.alphas_cumprod) / self.alphas_cumprod) ** 0.5)
        chosen = np.append(sigmas[list(timesteps)], 0.0).astype(np.float32)
        self.sigmas = torch.from_numpy(chosen)
        self.timesteps = torch.tensor(timesteps, dtype=torch.float32, device=device)


class RowwiseAmused(AmusedScheduler):  # type: ignore[misc]
    """aMUSEd's scheduler with a generator for each row. The stock one takes a single generator, and
    what it draws for a row depends on the rows before."""

    def step(
        self,
        model_output: Any,
        timestep: Any,
        sample: Any,
        starting_mask_ratio: float = 1.0,
        generator: Sequence[torch.Generator] = (),
        return_dict: bool = True,
    ) -> Any:
        rows = [
            super(RowwiseAmused, self).step(
                model_output[row : row + 1],
                timestep,
                sample[row : row + 1],
                starting_mask_ratio,
                generator=own,
                return_dict=False,
            )
            for row, own in enumerate(generator)
        ]
        stepped = tuple(torch.cat(column) for column in zip(*rows))
        return AmusedSchedulerOutput(*stepped) if return_dict else stepped
