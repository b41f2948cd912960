"""Tables against diffusers, rotations against their defining property."""

import pytest
import torch
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid, get_2d_sincos_pos_embed
from model_builders import noise, random_model, relative, text, tiny

from latte_core.model.attention import attention
from latte_core.model.patches import Grid
from latte_core.model.positions import rope_table, rotate, space_table, time_table

CPU = torch.device("cpu")


@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (3, 7), (6, 2)])
def test_space_table_equals_diffusers(grid: tuple[int, int]) -> None:
    theirs = get_2d_sincos_pos_embed(48, grid, base_size=4, output_type="pt").float()
    assert torch.equal(space_table(tiny(), Grid(*grid), CPU)[0, 0], theirs)


def test_space_table_is_stretched_for_large_text_models() -> None:
    config = text(sample_size=128)
    theirs = get_2d_sincos_pos_embed(
        48, 64, base_size=64, interpolation_scale=2, output_type="pt"
    ).float()
    assert torch.equal(space_table(config, Grid(64, 64), CPU)[0, 0], theirs)


def test_time_table_equals_diffusers() -> None:
    theirs = get_1d_sincos_pos_embed_from_grid(48, torch.arange(4), output_type="pt").float()
    assert torch.equal(time_table(tiny(), CPU)[0, :, 0], theirs)


def test_rope_scores_depend_on_distance_only() -> None:
    rope = rope_table(12, 32, CPU)
    q, k = noise(1, 1, 1, 12, seed=1).expand(-1, -1, 32, -1), noise(1, 1, 1, 12, seed=2)
    scores = rotate(q, rope) @ rotate(k.expand(-1, -1, 32, -1), rope).transpose(2, 3)
    for distance in (-5, 0, 7):
        diagonal = scores[0, 0].diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)
    assert (scores[0, 0, 0, 0] - scores[0, 0, 0, 7]).abs() > 1e-3


def test_rope_keeps_lengths_and_turns_by_the_stated_angles() -> None:
    rope, x = rope_table(8, 4, CPU), noise(4, 8)
    turned = rotate(x, rope)
    assert torch.allclose(turned.norm(dim=1), x.norm(dim=1), atol=1e-5)
    pairs = torch.complex(x[:, :4], x[:, 4:])
    angles = torch.outer(torch.arange(4.0), 10000.0 ** (-torch.arange(4) / 4))
    turned_pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    assert torch.allclose(torch.complex(turned[:, :4], turned[:, 4:]), turned_pairs, atol=1e-6)


def test_attention_turns_queries_and_keys_but_not_values() -> None:
    q, k, v = (noise(1, 5, 24, seed=i) for i in range(3))
    rope = rope_table(12, 5, CPU)
    turned = [rotate(x.unflatten(2, (2, 12)).transpose(1, 2), rope) for x in (q, k)]
    flat = [x.transpose(1, 2).flatten(2) for x in turned]
    assert relative(attention(q, k, v, 2, rope=rope), attention(*flat, v, 2)) < 1e-6


def test_rope_model_knows_the_order_of_frames_without_a_table() -> None:
    model = random_model(tiny(temporal_positions="rope"))
    latents, at = noise(1, 4, 4, 8, 8), torch.tensor([10])
    with torch.no_grad():
        out = model(latents, at)
        reordered = model(latents[:, :, [1, 0, 2, 3]], at)[:, :, [1, 0, 2, 3]]
        assert relative(reordered, out) > 1e-3
        longer = model(noise(1, 4, 6, 8, 8), at)  # any length has rotations
    assert longer.shape == (1, 8, 6, 8, 8)


@pytest.mark.parametrize("positions", ["absolute", "rope"])
def test_reversed_frames_give_reversed_output_only_without_positions(positions: str) -> None:
    """Control: a model whose tables are zeroed does not know the order."""
    model = random_model(tiny(temporal_positions=positions))
    latents, at = noise(1, 4, 4, 8, 8), torch.tensor([10])
    with torch.no_grad():
        assert relative(model(latents.flip(2), at).flip(2), model(latents, at)) > 1e-3
        if positions == "absolute":
            model.positions.time.zero_()
            assert relative(model(latents.flip(2), at).flip(2), model(latents, at)) < 1e-5
