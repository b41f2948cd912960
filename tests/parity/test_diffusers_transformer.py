"""The T2V model computes what diffusers' LatteTransformer3DModel computes, on the same weights."""

from dataclasses import replace

import pytest
import torch
from diffusers import LatteTransformer3DModel
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from tiny_models import T2V
from torch import Tensor

from latte_core.checkpoints import to_diffusers_state
from latte_core.errors import ShapeError
from latte_core.model import Latte, ModelConfig

CONFIG = replace(T2V, images="length_one")


def random_weights(model: torch.nn.Module, seed: int = 0) -> None:
    """Weights that let every part speak: no zero gates, no zero head."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        width = parameter.shape[-1] if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) * width**-0.5


def pair(config: ModelConfig = CONFIG) -> tuple[Latte, LatteTransformer3DModel]:
    ours = Latte(config).eval()
    random_weights(ours)
    stock = LatteTransformer3DModel.from_config(config.to_json()).eval()
    stock.load_state_dict(to_diffusers_state(ours), strict=True)
    return ours, stock


def inputs(batch: int, frames: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(frames * 100 + height)
    latents = torch.randn(batch, 4, frames, height, width, generator=generator)
    timesteps = torch.randint(0, 1000, (batch,), generator=generator)
    return latents, timesteps, torch.randn(batch, 7, 20, generator=generator)


@torch.no_grad()
def difference(ours: Latte, stock: LatteTransformer3DModel, *data: Tensor) -> float:
    """Largest difference over the output's scale."""
    latents, timesteps, prompt = data
    theirs = stock(latents, timesteps, encoder_hidden_states=prompt).sample
    mine = ours(latents, timesteps, prompt_embeds=prompt)
    assert theirs.std() > 0.1, "weights that do nothing prove nothing"
    return float((mine - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(
    "shape", [(1, 4, 8, 8), (2, 4, 8, 8), (2, 1, 8, 8), (1, 4, 12, 8), (2, 4, 6, 16)]
)
def test_t2v_equals_diffusers(shape: tuple[int, int, int, int]) -> None:
    ours, stock = pair()
    assert difference(ours, stock, *inputs(*shape)) <= 1e-6


def test_t2v_equals_diffusers_with_other_sizes() -> None:
    config = ModelConfig(
        hidden_size=96,
        depth=6,
        num_heads=2,
        in_channels=3,
        out_channels=3,
        patch_size=4,
        sample_size=128,  # above 64 the table is stretched
        num_frames=3,
        conditioning="text",
        injection="adaln_single",
        images="length_one",
        caption_channels=20,
    )
    latents, timesteps, prompt = inputs(1, 3, 16, 12)
    assert difference(*pair(config), latents[:, :3], timesteps, prompt) <= 1e-6


@pytest.mark.parametrize("frames", [1, 4])
def test_t2v_without_time_attention_equals_diffusers(frames: int) -> None:
    """Frames that are all images, bypassing time, are what diffusers makes with it disabled."""
    ours, stock = pair(replace(CONFIG, images="bypass"))
    latents, timesteps, prompt = inputs(2, frames, 8, 8)
    with torch.no_grad():
        theirs = stock(
            latents, timesteps, encoder_hidden_states=prompt, enable_temporal_attentions=False
        ).sample
        mine = ours(latents, timesteps, prompt_embeds=prompt, num_images=frames)
        timed = stock(latents, timesteps, encoder_hidden_states=prompt).sample
    assert (mine - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert (mine - timed).abs().max() > 1e-2 * theirs.abs().max()


def test_parity_sees_a_small_change_of_one_weight() -> None:
    ours, stock = pair()
    ours.blocks[3].mlp.fc2.weight.data[0, 0] += 0.01
    assert difference(ours, stock, *inputs(1, 4, 8, 8)) > 1e-6


def test_prompt_mask_equals_diffusers_with_the_prompt_cut_short() -> None:
    ours, stock = pair()
    latents, timesteps, prompt = inputs(2, 4, 8, 8)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]]).expand(2, 7)
    with torch.no_grad():
        theirs = stock(latents, timesteps, encoder_hidden_states=prompt[:, :4]).sample
        masked = ours(latents, timesteps, prompt, prompt_attention_mask=mask)
        whole = ours(latents, timesteps, prompt)
    assert (masked - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert (whole - theirs).abs().max() > 1e-3 * theirs.abs().max()


def test_frame_positions_between_the_trained_ones_equal_diffusers() -> None:
    """Diffusers with its time table interpolated, as a longer clip's window has it."""
    ours, stock = pair()
    data, places = inputs(1, 4, 8, 8), torch.tensor([0.0, 0.4, 0.8, 1.2])
    table = get_1d_sincos_pos_embed_from_grid(CONFIG.hidden_size, places, output_type="pt")
    latents, timesteps, prompt = data
    plain = ours(latents, timesteps, prompt_embeds=prompt)
    placed = ours(latents, timesteps, prompt_embeds=prompt, frame_positions=places)
    stock.temp_pos_embed = table[None].float()
    theirs = stock(latents, timesteps, encoder_hidden_states=prompt).sample
    assert (placed - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert (placed - plain).abs().max() > 1e-2 * theirs.abs().max()


def test_frame_positions_of_another_number_are_refused() -> None:
    ours, _ = pair()
    latents, timesteps, prompt = inputs(1, 4, 8, 8)
    with pytest.raises(ShapeError, match=r"needs \(4,\)"):
        ours(latents, timesteps, prompt_embeds=prompt, frame_positions=torch.zeros(5))
