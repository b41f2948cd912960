"""The autoencoder's task, its batches, and its start as a pyramid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core.components.vae import new_vae
from latte_core.training.autoencoder import (
    AutoencoderTask,
    Frames,
    Reconstruction,
    WorldFrames,
    measure_reconstruction,
    peak_signal_to_noise,
    reconstruct,
    to_frames,
    to_pixels,
)
from latte_core.training.loop import LoopConfig, Trainer
from latte_core.training.pyramid import start_as_pyramid
from latte_core.training.recipe import parse_recipe

WORLD = parse_recipe(tiny_recipe_data()).world


def make_vae(seed=0, stages=4):
    torch.manual_seed(seed)
    shape = parse_recipe(tiny_recipe_data()).autoencoder.shape
    widths = (8,) * (stages - 4) + shape.block_out_channels
    return new_vae(replace(shape, block_out_channels=widths))


def smooth_pictures(size=32):
    """Gradients between random corner colours, (8, 3, size, size) in -1..1."""
    corners = torch.rand(8, 3, 2, 2, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(
        corners, size, mode="bilinear", align_corners=True
    ).clone()


def quality(vae, x):
    with torch.no_grad():
        y = reconstruct(Reconstruction(vae), x)
    return float(-10 * torch.log10(((y - x) / 2).square().mean()))


@pytest.mark.parametrize("stages", [4, 5])
def test_pyramid_passes_a_smooth_picture_before_any_training(stages):
    vae, side = make_vae(stages=stages), 2 ** (stages + 1)
    plain = quality(vae, smooth_pictures(side))
    sample = WorldFrames(WORLD, side, 16, seed=3)[0].pixels
    start_as_pyramid(vae, sample)
    assert quality(vae, smooth_pictures(side)) > 20
    assert quality(vae, sample) > 15
    assert plain < 15


def test_pyramid_still_learns(tmp_path):
    """Every weight of the started autoencoder gets a gradient."""
    vae = make_vae()
    start_as_pyramid(vae, WorldFrames(WORLD, 32, 16, seed=3)[0].pixels)
    task = AutoencoderTask(Reconstruction(vae), WorldFrames(WORLD, 32, 4))
    loss, _ = task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))
    loss.backward()
    idle = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_training_lowers_the_loss_and_draws_a_sheet(tmp_path):
    task = AutoencoderTask(Reconstruction(make_vae()), WorldFrames(WORLD, 32, 8))
    before = measure_reconstruction(task.model, WorldFrames(WORLD, 32, 8, 9, True), 2)
    plan = LoopConfig(
        steps=25, learning_rate=3e-3, warmup_steps=1, workers=0, device="cpu", ema_decay=0.8
    )
    average = Trainer(task, plan, tmp_path).run()
    after = measure_reconstruction(average, WorldFrames(WORLD, 32, 8, 9, True), 2)
    assert after > before
    assert (tmp_path / "sheet-0000025.png").is_file()


def test_loss_counts_pixels_edges_and_divergence():
    """With parts that are known by hand: a perfect copy costs the divergence alone."""
    task = AutoencoderTask(Reconstruction(make_vae()), WorldFrames(WORLD, 32, 4), kl_weight=0.1)
    x = task.batches[0]
    assert x.cover.any()  # with a weight of 1 it changes nothing
    mean, logvar = torch.full((4, 4, 4, 4), 2.0), torch.zeros(4, 4, 4, 4)
    draw = torch.Generator().manual_seed(0)
    loss, figures = task.loss(lambda frames, noise: (frames, mean, logvar), x, draw)
    assert figures["kl"] == pytest.approx(2.0)  # (4 + 1 - 1 - 0) / 2
    assert float(loss) == pytest.approx(0.2)
    lighter, _ = task.loss(lambda frames, noise: (frames + 0.1, mean, logvar), x, draw)
    assert float(lighter) == pytest.approx(0.2 + 0.1 / 4 + 4 * 0.01, rel=1e-4)  # edges agree
    blurred, _ = task.loss(lambda frames, noise: (frames * 0.9, mean, logvar), x, draw)
    assert float(blurred) > float(loss)


def test_an_error_on_a_subject_or_its_outline_counts_more_often():
    task = AutoencoderTask(Reconstruction(make_vae()), WorldFrames(WORLD, 32, 4), edge_weight=0.0)
    mean, logvar = torch.zeros(2, 4, 4, 4), torch.zeros(2, 4, 4, 4)
    cover = torch.zeros(2, 1, 32, 32)
    cover[:, :, 10:20, 10:20] = 1
    batch = Frames(torch.zeros(2, 3, 32, 32), cover)

    def cost(place, weight):
        def model(x, noise):
            y = x.clone()
            y[(..., *place)] = 0.5
            return y, mean, logvar

        weighted = replace(task, subject_weight=weight)
        return float(weighted.loss(model, batch, torch.Generator())[0])

    inside, outline, outside = (15, 15), (21, 15), (23, 15)
    assert cost(inside, 4.0) == pytest.approx(4 * cost(inside, 1.0))
    assert cost(outline, 4.0) == pytest.approx(4 * cost(outline, 1.0))
    assert cost(outside, 4.0) == pytest.approx(cost(outside, 1.0)) == cost(inside, 1.0)


def test_an_error_on_a_faint_subject_counts_more_often():
    """Two frames, a subject of 0.05 and one of 0.8 on grounds of 0: power 1 would be 256 to 1."""
    task = AutoencoderTask(Reconstruction(make_vae()), WorldFrames(WORLD, 32, 4), edge_weight=0.0)
    mean, logvar = torch.zeros(2, 4, 4, 4), torch.zeros(2, 4, 4, 4)
    cover = torch.zeros(2, 1, 32, 32)
    cover[:, :, 10:20, 10:20] = 1
    batch = Frames(
        torch.tensor([0.05, 0.8])[:, None, None, None] * cover.expand(-1, 3, -1, -1), cover
    )

    def cost(frame, power):
        def model(x, noise):
            y = x.clone()
            y[frame, :, 15, 15] += 0.1
            return y, mean, logvar

        weighted = replace(task, subject_weight=2.0, contrast_power=power)
        return float(weighted.loss(model, batch, torch.Generator())[0])

    assert cost(0, 0.0) == pytest.approx(cost(1, 0.0))
    assert cost(0, 0.25) == pytest.approx(4 * cost(1, 0.25))  # contrasts are 1 to 256
    assert cost(0, 1.0) == pytest.approx(64 * cost(1, 1.0))  # eight times more, eight times less


def test_decoder_alone_learns_and_latents_stay():
    model = Reconstruction(make_vae(), decoder_only=True)
    task = AutoencoderTask(model, WorldFrames(WORLD, 32, 4))
    loss, _ = task.loss(model, task.batches[0], torch.Generator().manual_seed(0))
    loss.backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learns == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("vae.decoder", "vae.post_quant_conv"))
    }


def test_batches_are_named_by_number_and_split():
    frames = WorldFrames(WORLD, 32, 6)
    assert frames[2].pixels.shape == (6, 3, 32, 32) and frames[2].cover.shape == (6, 1, 32, 32)
    assert all(map(torch.equal, frames[2], WorldFrames(WORLD, 32, 6)[2]))
    others = (
        frames[3],
        WorldFrames(WORLD, 32, 6, seed=1)[2],
        WorldFrames(WORLD, 32, 6, 0, True)[2],
    )
    assert not any(torch.equal(frames[2].pixels, other.pixels) for other in others)


def test_a_mirrored_clip_is_its_mirror_image():
    plain = WorldFrames(WORLD, 32, 2)
    mirror = replace(plain, mirrored=1.0)
    for n in range(4):
        for ours, theirs in zip(mirror[n], plain[n], strict=True):
            assert torch.equal(ours, theirs.flip(-1))
    some = replace(plain, mirrored=0.5)
    turned = [not torch.equal(some[n].pixels, plain[n].pixels) for n in range(40)]
    assert 8 <= sum(turned) <= 32


def test_pixels_and_levels_are_inverse():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    pixels = to_pixels(levels)
    assert pixels.shape == (1, 3, 16, 16)
    assert (float(pixels.min()), float(pixels.max())) == (-1.0, 1.0)
    assert np.array_equal(to_frames(pixels), levels)


def test_signal_to_noise_equals_its_formula():
    a, b = np.zeros((4, 4), np.uint8), np.full((4, 4), 16, np.uint8)
    assert peak_signal_to_noise(a, b) == pytest.approx(20 * np.log10(255 / 16))
    assert peak_signal_to_noise(a, a) > 100
