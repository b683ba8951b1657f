"""The parts of the tiny family, in the classes and the folder format of SDXL.

Everything here is stock diffusers and transformers: `export` writes a folder that
`StableDiffusionXLPipeline.from_pretrained` loads, with the second text encoder and tokenizer
alone (SDXL allows the first to be absent). One latent is 8 x 8 x 8 for a picture of 64 x 64.
"""

import copy
import json
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    LCMScheduler,
    SchedulerMixin,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from generation.tiny.scenes import (
    BACKGROUNDS,
    COLOURS,
    NUMBERS,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIDE,
    SIZES,
)

TOKENS = 24  # a prompt's length, with start, end and padding; sentences need at most 16
SLOTS = 4  # the last positions, always padding: three things and the background
WIDTH = 128  # of the text encoder, and so of the UNet's cross-attention
LATENT = 8  # channels, height and width of a latent
TRAIN_TIMES = 1000  # levels of noise, from 0, clean, to 999, noise
GRID = 25  # the student of consistency knows every 25th of them


def build_tokenizer() -> CLIPTokenizer:
    """A stock CLIP tokenizer in which every word of the grammar is one token.

    CLIP's is a byte-pair tokenizer; its merges are found here from the words alone, the most
    frequent pair first, until each word is whole. Other words fall into letters.
    """
    words = sorted(_words())
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,"
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(c + "</w>" for c in letters)]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(p for piece in pieces.values() for p in pairwise(piece)):
        pair = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(pair)
        vocabulary.append("".join(pair))
        pieces = {word: _merge(piece, pair) for word, piece in pieces.items()}
    vocab = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    with tempfile.TemporaryDirectory() as folder:
        vocab_file, merges_file = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab_file.write_text(json.dumps(vocab))
        merges_file.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        return CLIPTokenizer(str(vocab_file), str(merges_file), model_max_length=TOKENS)


def _words() -> set[str]:
    phrases = (*COLOURS, *BACKGROUNDS, *SHAPES, *PLURALS.values(), *SIZES, *NUMBERS)
    return set(" ".join((*phrases, *RELATIONS.values(), "a and on background")).split())


def _merge(piece: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in piece:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        latent_channels=LATENT,
        norm_num_groups=8,
        sample_size=SIDE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=False,
    )


def build_unet(width: int = 64) -> UNet2DConditionModel:
    """A one-level UNet with cross-attention, conditioned as SDXL's is."""
    return UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=LATENT,
        out_channels=LATENT,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(width,),
        layers_per_block=1,
        attention_head_dim=4,  # the number of heads, in spite of its name
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )


# The noise of training, and that networks tell v.
_NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "num_train_timesteps": TRAIN_TIMES,
}


def build_scheduler() -> EulerAncestralDiscreteScheduler:
    """The teacher's and the turbo's; trailing steps, so that one step starts from pure noise.

    Ancestral, as SDXL Turbo has it: on 64 cells a plain Euler step cannot take back where a
    thing was begun by mistake, and one in eight pictures showed one thing too many or too few.
    """
    return EulerAncestralDiscreteScheduler(**_NOISE, timestep_spacing="trailing")


def build_lcm_scheduler() -> LCMScheduler:
    """The consistent student's: paint, put noise on again, paint."""
    return LCMScheduler(**_NOISE, original_inference_steps=TRAIN_TIMES // GRID)


class Words(NamedTuple):
    """What SDXL conditions on: (batch, TOKENS, WIDTH) token states and (batch, WIDTH) pooled."""

    states: torch.Tensor
    pooled: torch.Tensor

    def kept(self, which: torch.Tensor) -> "Words":
        """With zeros where `which`, bool (batch,), is false, as SDXL's unconditional half has."""
        return Words(self.states * which[:, None, None], self.pooled * which[:, None])


def embed(encoder: CLIPTextModelWithProjection, ids: torch.Tensor) -> Words:
    """Read prompts, int64 (batch, TOKENS): states of the layer before last, and pooled."""
    out = encoder(ids, output_hidden_states=True)
    return Words(out.hidden_states[-2], out.text_embeds)


def size_ids(batch: int, device: torch.device) -> torch.Tensor:
    """SDXL's original size, crop and target size, always those of a whole picture."""
    row = torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE], dtype=torch.float32, device=device)
    return row.repeat(batch, 1)


class Levels:
    """How much of the signal and of the noise is left at each time of training."""

    def __init__(self, device: torch.device) -> None:
        self._alphas = build_scheduler().alphas_cumprod.to(device)

    def at(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares of signal and noise, each (batch, 1, 1, 1), for int64 times (batch,)."""
        alphas = self._alphas[times][:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()


def tell(
    unet: UNet2DConditionModel, noisy: torch.Tensor, times: torch.Tensor, words: Words
) -> torch.Tensor:
    """The UNet's v for noisy latents, conditioned as SDXL's pipeline does it."""
    sizes = size_ids(len(noisy), noisy.device)
    told: torch.Tensor = unet(
        noisy,
        times,
        words.states,
        added_cond_kwargs={"text_embeds": words.pooled, "time_ids": sizes},
    ).sample
    return told


def export(
    folder: Path,
    vae: AutoencoderKL,
    encoder: CLIPTextModelWithProjection,
    unet: UNet2DConditionModel,
    scheduler: SchedulerMixin,
) -> None:
    """Write an SDXL folder in fp16, complete in itself; the models passed in stay as they are."""
    pipeline = StableDiffusionXLPipeline(
        vae=copy.deepcopy(vae).half(),
        text_encoder=None,
        text_encoder_2=copy.deepcopy(encoder).half(),
        tokenizer=None,
        tokenizer_2=build_tokenizer(),
        unet=copy.deepcopy(unet).half(),
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # the writer leaves them to their owner alone
