"""What is painted with: our own tiny model, or SDXL in full size with random weights."""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from generation.spec import Recipe, folder_revision
from generation.tiny.evaluate import SHIPPED
from generation.tiny.model import build_tokenizer

TOKENS = 77


def build(name: str, folder: Path, steps: int | None) -> Recipe:
    """Write a checkpoint below a folder; its recipe, with a number of steps other than its own."""
    folder.mkdir(parents=True)
    settings = {"tiny": _tiny, "sdxl": _sdxl}[name](folder / name)
    if steps:
        settings["steps"] = steps
    revision = folder_revision(folder / name)
    return Recipe(family="sdxl", checkpoint=name, revision=revision, **settings)


def _tiny(folder: Path) -> dict[str, Any]:
    shutil.copytree(SHIPPED / "tiny-base", folder)
    return {"steps": 50, "guidance": 2.0, "width": 64, "height": 64, "dtype": "float32"}


def _sdxl(folder: Path) -> dict[str, Any]:
    """SDXL as its public configuration has it, and Turbo's way to sample. Random weights paint
    nothing, at the same cost; the tokenizer is our own, of the same length."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = TOKENS
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device(device):
            networks = {
                "vae": _sdxl_vae(),
                "text_encoder": CLIPTextModel(_clip(768, 12, 12, "quick_gelu")),
                "text_encoder_2": CLIPTextModelWithProjection(_clip(1280, 32, 20, "gelu")),
                "unet": _sdxl_unet(),
            }
    finally:
        torch.set_default_dtype(torch.float32)
    scheduler = EulerAncestralDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
    )
    pipeline = StableDiffusionXLPipeline(
        **networks,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=scheduler,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return {
        "steps": 1,
        "guidance": 0.0,
        "width": 512,
        "height": 512,
        "dtype": "float16",
        "vae_dtype": "bfloat16",
    }


def _clip(width: int, layers: int, heads: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=activation,
        projection_dim=width,
        max_position_embeddings=TOKENS,
    )


def _sdxl_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def _sdxl_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=1024,
        scaling_factor=0.13025,
    )
