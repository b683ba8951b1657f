"""Other families in miniature: every part real, from hand-written settings, with random weights."""

from pathlib import Path
from typing import Any

import diffusers as d
import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.generation.random_sdxl import TOKENS, WIDTH, byte_tokenizer


def letters_tokenizer(kind: Any, **special: str) -> Any:
    """A fast tokenizer that knows single letters, as T5 and Gemma get theirs from a file."""
    names = ["<pad>", "</s>", "<unk>", "<bos>", *(chr(code) for code in range(32, 127))]
    tokenizer = Tokenizer(
        models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return kind(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        **special,
    )


def t5() -> dict[str, Any]:
    config = t.T5Config(vocab_size=99, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    tokenizer = letters_tokenizer(t.PreTrainedTokenizerFast)
    return {"text_encoder": t.T5EncoderModel(config), "tokenizer": tokenizer}


def clip(folder: Path, *, projected: bool = False) -> dict[str, Any]:
    tokenizer = byte_tokenizer(folder)
    kind = t.CLIPTextModelWithProjection if projected else t.CLIPTextModel
    config = t.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return {"text_encoder": kind(config), "tokenizer": tokenizer}


def vae(channels: int = 4, *, levels: int = 3, **more: Any) -> Any:
    return d.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8, 16, 32)[:levels],
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=32,
        force_upcast=False,
        **more,
    )


def tiny_vae(channels: int = 4, *, levels: int = 3) -> Any:
    widths = (8,) * levels
    return d.AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(1,) * levels,
        latent_channels=channels,
    )


def unet(in_channels: int = 4, out_channels: int = 4, **more: Any) -> Any:
    return d.UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=(32,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        attention_head_dim=8,
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
        **more,
    )


def sd1(folder: Path) -> Any:
    return d.StableDiffusionPipeline(
        vae=vae(),
        unet=unet(),
        scheduler=d.PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **clip(folder),
    )


def sd3(folder: Path) -> Any:
    one, other, third = clip(folder, projected=True), clip(folder, projected=True), t5()
    transformer = d.SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
    )
    third["text_encoder"] = t.T5EncoderModel(
        t.T5Config(vocab_size=99, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    )
    return d.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.0609),
        **one,
        text_encoder_2=other["text_encoder"],
        tokenizer_2=other["tokenizer"],
        text_encoder_3=third["text_encoder"],
        tokenizer_3=third["tokenizer"],
    )


def flux(folder: Path) -> Any:
    second = t5()
    transformer = d.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    return d.FluxPipeline(
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.1159),
        transformer=transformer,
        **clip(folder),
        text_encoder_2=second["text_encoder"],
        tokenizer_2=second["tokenizer"],
    )


def pixart(folder: Path) -> Any:
    transformer = d.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        norm_num_groups=1,
    )
    return d.PixArtSigmaPipeline(
        transformer=transformer, vae=vae(), scheduler=d.DPMSolverMultistepScheduler(), **t5()
    )


def sana(folder: Path) -> Any:
    transformer = d.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=32,
    )
    decoder = d.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    encoder = t.Gemma2Model(
        t.Gemma2Config(
            vocab_size=99,
            hidden_size=8,
            intermediate_size=8,
            head_dim=4,
            num_attention_heads=2,
            num_hidden_layers=1,
            num_key_value_heads=2,
            max_position_embeddings=4096,
        )
    )
    tokenizer = letters_tokenizer(t.GemmaTokenizerFast, bos_token="<bos>")
    return d.SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=decoder,
        transformer=transformer,
        scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def amused(folder: Path) -> Any:
    transformer = d.UVit2DModel(
        hidden_size=WIDTH,
        use_bias=False,
        hidden_dropout=0.0,
        cond_embed_dim=WIDTH,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=WIDTH,
        vocab_size=32,
        codebook_size=32,
        in_channels=WIDTH,
        block_out_channels=WIDTH,
        num_res_blocks=1,
        downsample=True,
        upsample=True,
        block_num_heads=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        attention_dropout=0.0,
        intermediate_size=WIDTH,
        layer_norm_eps=1e-06,
        ln_elementwise_affine=True,
    )
    vqvae = d.VQModel(
        act_fn="silu",
        block_out_channels=[8, 8, 8],
        down_block_types=["DownEncoderBlock2D"] * 3,
        in_channels=3,
        latent_channels=8,
        layers_per_block=1,
        norm_num_groups=8,
        num_vq_embeddings=32,
        out_channels=3,
        sample_size=32,
        up_block_types=["UpDecoderBlock2D"] * 3,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    return d.AmusedPipeline(
        transformer=transformer,
        vqvae=vqvae,
        scheduler=d.AmusedScheduler(mask_token_id=31),
        **clip(folder, projected=True),
    )


def if_first(folder: Path) -> Any:
    return d.IFPipeline(
        unet=if_unet(3),
        scheduler=if_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
        **t5(),
    )


def if_second(folder: Path) -> Any:
    return d.IFSuperResolutionPipeline(
        unet=if_unet(6, class_embed_type="timestep"),
        scheduler=if_scheduler(),
        image_noising_scheduler=d.DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
        text_encoder=None,
        tokenizer=None,
    )


def if_unet(in_channels: int, **more: Any) -> Any:
    return unet(in_channels, 6, **more)


def if_scheduler() -> Any:
    return d.DDPMScheduler(
        variance_type="learned_range", beta_schedule="squaredcos_cap_v2", thresholding=True
    )


def upscaler(folder: Path) -> Any:
    return d.StableDiffusionUpscalePipeline(
        vae=vae(scaling_factor=0.08333),
        unet=unet(7, 4, num_class_embeds=1000),
        low_res_scheduler=d.DDPMScheduler(),
        scheduler=d.DDIMScheduler(prediction_type="v_prediction"),
        **clip(folder),
    )


BUILDERS = {
    "sd1": sd1,
    "sd3": sd3,
    "flux": flux,
    "pixart": pixart,
    "sana": sana,
    "amused": amused,
    "if-first": if_first,
    "if-second": if_second,
    "upscaler": upscaler,
}


def save_random(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a pipeline to folder/name."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    BUILDERS[name](folder).save_pretrained(folder / name)
    return folder / name
