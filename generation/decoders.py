"""Which VAE may decode in place of a checkpoint's own, told from their config.json. No torch.

A pipeline divides latents by its VAE's `scaling_factor` (and adds `shift_factor`) before they are
decoded. A VAE made for other latents, as SD 1.x's in SDXL, decodes without an error to another
picture; so what stands in must be made for the same.
"""

import json
from pathlib import Path
from typing import Any

# What diffusers' pipelines decode with as well. (ConsistencyDecoderVAE paints with noise of its
# own, for which SDXL's pipeline hands on no seed.)
STAND_IN = {"AutoencoderKL": "AutoencoderTiny"}
# What a class takes where its config.json says nothing. A test holds it against diffusers.
DEFAULTS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"latent_channels": 4, "scaling_factor": 0.18215},
    "AutoencoderTiny": {"latent_channels": 4, "scaling_factor": 1.0, "shift_factor": 0.0},
}
SAME = ("latent_channels", "scaling_factor", "shift_factor", "latents_mean", "latents_std")


def allowed_kinds(own: str) -> list[str]:
    """The classes that may stand in for a VAE of class `own`, itself included."""
    return [own, STAND_IN[own]] if own in STAND_IN else [own]


def vae_problems(folder: Path, own: Path) -> list[str]:
    """What keeps the VAE of one folder from decoding for a checkpoint's own."""
    given, known = _read(folder), _read(own)
    if given is None:
        return [f"{folder / 'config.json'} cannot be read; expected one that names the VAE's class"]
    if known is None:
        return []  # what a checkpoint lacks is said elsewhere
    kind, kinds = given["_class_name"], allowed_kinds(known["_class_name"])
    if kind not in kinds:
        return [f"{folder} holds a {kind}, expected {' or '.join(kinds)}"]
    found, expected = _latents(given), _latents(known)
    if kind != known["_class_name"]:
        # It takes latents as the model paints them: its own factors are part of how it was made.
        expected |= {key: DEFAULTS[kind].get(key) for key in SAME if key != "latent_channels"}
    return [
        f"{folder}: expected {key} {expected[key]}, found {found[key]}: made for other latents "
        f"than {own}"
        for key in expected
        if found[key] != expected[key]
    ]


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    named = isinstance(config, dict) and isinstance(config.get("_class_name"), str)
    return config if named else None


def _latents(config: dict[str, Any]) -> dict[str, Any]:
    """What a VAE says of its latents; each of its levels but one halves an image's sides."""
    known = DEFAULTS.get(config["_class_name"], {})
    widths = config.get("block_out_channels") or config.get("decoder_block_out_channels")
    levels = len(widths) if isinstance(widths, list) else 0
    return {key: config.get(key, known.get(key)) for key in SAME} | {"levels": levels}
