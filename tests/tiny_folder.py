"""Write a small random model folder in the public Latte-1 layout, with stock classes only."""

import io
import json
from pathlib import Path

import torch

FRAMES = 8
SIZE = 64
WORDS = (
    "a an the red blue green yellow big small rocket cow cat dog bird ball car ship flies jumps "
    "rolls runs swims over under in on sea city forest desert snow night day sunset blurry"
)
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def write_tiny_folder(
    folder: Path,
    *,
    scheduler: dict | None = None,
    temporal_decoder: bool = False,
    seed: int = 0,
    pairs: int = 2,
) -> Path:
    """Tokenizer, T5, Latte with `pairs` of blocks, autoencoder and DDIM; 2 MB, under a second.

    `scheduler` overrides fields of the scheduler's config. Clips are FRAMES frames of SIZE pixels.
    """
    from diffusers import DDIMScheduler

    folder.mkdir(parents=True, exist_ok=True)
    words = _write_tokenizer(folder / "tokenizer")
    parts = {"text_encoder": _encoder(words), "transformer": _transformer(pairs), "vae": tiny_vae()}
    if temporal_decoder:
        parts["vae_temporal_decoder"] = _temporal_decoder()
    for offset, (name, module) in enumerate(parts.items()):
        randomise(module, seed + offset).save_pretrained(folder / name)
    DDIMScheduler(
        num_train_timesteps=1000, clip_sample=False, **BETAS, timestep_spacing="leading"
    ).save_pretrained(folder / "scheduler")
    _override(folder / "scheduler" / "scheduler_config.json", scheduler or {})
    _write_index(folder)
    return folder


def _encoder(words: int):
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=words + 100,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            tie_word_embeddings=False,
        )
    )


def _transformer(pairs: int):
    from diffusers import LatteTransformer3DModel

    return LatteTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=pairs,
        cross_attention_dim=48,
        attention_bias=True,
        sample_size=SIZE // 8,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=32,
        video_length=FRAMES,
    )


def tiny_vae(channels=4):
    """A random autoencoder that halves each side three times."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=SIZE,
        scaling_factor=0.18215,
    )


def _temporal_decoder():
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        sample_size=SIZE,
        scaling_factor=0.18215,
    )


def _write_tokenizer(folder: Path) -> int:
    """A SentencePiece model with T5's special ids; returns the number of its pieces."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([WORDS, WORDS[::-1]] * 50),
        model_writer=buffer,
        model_type="unigram",
        vocab_size=120,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=3,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    (folder / "spiece.model").write_bytes(buffer.getvalue())
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": 512, "extra_ids": 100}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    pieces = sentencepiece.SentencePieceProcessor(model_proto=buffer.getvalue())
    return pieces.get_piece_size()


def randomise(module, seed: int):
    """Weights of a size that keeps activations near one; gains near one, biases small."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1:
                value.copy_(noise * min(0.5, value[0].numel() ** -0.5))
            elif name.endswith("weight"):
                value.copy_(1 + 0.05 * noise)
            else:
                value.copy_(0.05 * noise)
    return module.eval()


def _override(path: Path, fields: dict) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=2))


def _write_index(folder: Path) -> None:
    import diffusers

    index = {
        "_class_name": "LattePipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "LatteTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
