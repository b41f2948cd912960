"""The engine against the stock pipeline: same folder, same noise, same latents and pixels."""

import shutil

import numpy as np
import pytest
import torch
from tiny_folder import FRAMES, SIZE, write_tiny_folder

from latte_core import Engine, GenerationRequest
from latte_core.checkpoints import load_transformer, save_transformer
from latte_core.components.text_encoder import load_text_encoder
from latte_core.components.vae import load_vae, save_vae

STOCK = {
    "ddim": "DDIMScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
PROMPT = "A red rocket flies over the sea"


@pytest.fixture(scope="module")
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def stock(tiny_folder):
    from diffusers import LattePipeline

    pipeline = LattePipeline.from_pretrained(tiny_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_stock(pipeline, scheduler, noise, **options):
    import diffusers

    kind = getattr(diffusers, STOCK[scheduler])
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    return pipeline(
        PROMPT,
        negative_prompt="",
        height=SIZE,
        width=SIZE,
        latents=torch.from_numpy(noise),
        **options,
    ).frames


def difference(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("steps", [4, 12])
@pytest.mark.parametrize("scheduler", STOCK)
def test_latents_equal_the_stock_pipelines(engine, stock, scheduler, steps):
    made = engine.generate(
        GenerationRequest(PROMPT, seed=11, num_inference_steps=steps, scheduler=scheduler)
    )
    theirs = run_stock(
        stock,
        scheduler,
        made.initial_latents,
        num_inference_steps=steps,
        video_length=FRAMES,
        output_type="latent",
    ).numpy()
    assert made.latents.shape == theirs.shape
    assert difference(made.latents, theirs) < 1e-5
    assert difference(made.latents, made.initial_latents) > 0.1


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_pixels_equal_the_stock_pipelines(engine, stock, guidance):
    made = engine.generate(
        GenerationRequest(PROMPT, seed=3, num_inference_steps=3, guidance_scale=guidance)
    )
    theirs = run_stock(
        stock,
        "ddim",
        made.initial_latents,
        num_inference_steps=3,
        guidance_scale=guidance,
        video_length=FRAMES,
        output_type="np",
    )[0]
    assert made.frames.shape == theirs.shape == (FRAMES, SIZE, SIZE, 3)
    assert np.abs(made.frames - theirs * 255).max() < 1.01
    assert made.frames.std() > 10


def test_the_seed_is_the_stock_pipelines_seed(engine):
    made = engine.generate(GenerationRequest(PROMPT, seed=5, num_inference_steps=1))
    shape = (1, 4, FRAMES, SIZE // 8, SIZE // 8)
    stock_noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    assert np.array_equal(made.initial_latents, stock_noise.numpy())


def test_one_frame_equals_stock_image_mode(engine, stock):
    made = engine.generate(GenerationRequest(PROMPT, seed=5, num_inference_steps=3, num_frames=1))
    theirs = run_stock(
        stock,
        "ddim",
        made.initial_latents,
        num_inference_steps=3,
        video_length=1,
        output_type="latent",
    ).numpy()
    assert difference(made.latents, theirs) < 1e-5


def test_ddpm_draws_its_noise_as_stock_does(tmp_path):
    from diffusers import DDPMScheduler, LattePipeline

    folder = write_tiny_folder(tmp_path / "ddpm", scheduler={"variance_type": "fixed_small"})
    pipeline = LattePipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    # Stock gives its generator to the scheduler, after having drawn the latents from it.
    theirs = pipeline(
        PROMPT,
        negative_prompt="",
        height=SIZE,
        width=SIZE,
        video_length=FRAMES,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
    ).frames.numpy()
    with Engine.load(folder) as engine:
        made = engine.generate(
            GenerationRequest(PROMPT, seed=9, num_inference_steps=4, scheduler="ddpm")
        )
    assert difference(made.latents, theirs) < 1e-5


def test_a_folder_that_we_write_runs_in_the_stock_pipeline(stock, tiny_folder, tmp_path):
    from diffusers import LattePipeline

    text = load_text_encoder(tiny_folder)
    text.save(tmp_path, torch.float32)
    save_vae(load_vae(tiny_folder / "vae"), tmp_path / "vae", torch.float32)
    transformer = load_transformer(tiny_folder / "transformer")
    save_transformer(transformer, tmp_path / "transformer", torch.float32, max_shard_bytes=100_000)
    shutil.copytree(tiny_folder / "scheduler", tmp_path / "scheduler")
    shutil.copy(tiny_folder / "model_index.json", tmp_path)
    written = LattePipeline.from_pretrained(tmp_path, local_files_only=True)
    written.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, FRAMES, SIZE // 8, SIZE // 8).numpy()
    options = {"num_inference_steps": 3, "video_length": FRAMES, "output_type": "np"}
    ours, theirs = (run_stock(pipe, "ddim", noise, **options) for pipe in (written, stock))
    assert np.array_equal(ours, theirs)
