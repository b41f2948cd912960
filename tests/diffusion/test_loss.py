"""DiffusionLoss against numbers of the original code and against closed forms."""

import pytest
import torch

from latte_core.diffusion.loss import DiffusionLoss
from latte_core.errors import ConfigError, ShapeError


def wave(rate: float, scale: float = 1.0) -> torch.Tensor:
    """The (B, F, C, h, w) inputs of the golden values, in our order of axes."""
    flat = torch.arange(2 * 4 * 4 * 8 * 8, dtype=torch.float64) * rate
    values = flat.sin() if rate == 0.23 else flat.cos()
    return (scale * values).float().reshape(2, 4, 4, 8, 8).transpose(1, 2)


X0, NOISE = wave(0.11, 0.5), wave(0.23)


def test_add_noise_equals_diffusers() -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    timesteps = torch.tensor([3, 777])
    theirs = scheduler.add_noise(X0, NOISE, timesteps)
    assert torch.allclose(DiffusionLoss().add_noise(X0, NOISE, timesteps), theirs, atol=1e-6)


def test_v_prediction_target_equals_diffusers() -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    timesteps = torch.tensor([3, 777])
    velocity = scheduler.get_velocity(X0, NOISE, timesteps)
    loss = DiffusionLoss("v_prediction", learned_variance=False)
    assert loss(velocity, X0, NOISE, timesteps).mse.max() < 1e-10
    assert loss(NOISE, X0, NOISE, timesteps).mse.max() > 0.01


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_true_mean_with_the_posterior_variance_has_no_divergence(prediction: str) -> None:
    loss, timesteps = DiffusionLoss(prediction), torch.tensor([10, 500])
    target = loss._target(X0, NOISE, timesteps)
    lower = torch.cat([target, -torch.ones_like(X0)], dim=1)
    upper = torch.cat([target, torch.ones_like(X0)], dim=1)
    assert loss(lower, X0, NOISE, timesteps).vb.abs().max() < 1e-4
    assert loss(upper, X0, NOISE, timesteps).vb.min() > loss(lower, X0, NOISE, timesteps).vb.max()


def test_predict_x0_undoes_add_noise() -> None:
    timesteps = torch.tensor([10, 900])
    for prediction in ("epsilon", "v_prediction"):
        loss = DiffusionLoss(prediction)
        latents = loss.add_noise(X0, NOISE, timesteps)
        x0 = loss.predict_x0(loss._target(X0, NOISE, timesteps), latents, timesteps)
        assert torch.allclose(x0, X0, atol=1e-4)


def test_the_bound_does_not_train_the_mean() -> None:
    output = torch.randn(2, 8, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    output.requires_grad_()
    terms = DiffusionLoss()(output, X0, NOISE, torch.tensor([0, 500]))
    (gradient,) = torch.autograd.grad(terms.vb.sum(), output)
    assert gradient[:, :4].abs().max() == 0
    assert gradient[:, 4:].abs().max() > 0


def test_loss_mask_leaves_frames_out() -> None:
    loss, timesteps = DiffusionLoss(learned_variance=False), torch.tensor([10, 500])
    output = NOISE.clone()
    output[:, :, 2] += 1
    everything = loss(output, X0, NOISE, timesteps)
    mask = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1]])
    assert torch.allclose(everything.mse, torch.full((2,), 0.25), atol=1e-6)
    assert loss(output, X0, NOISE, timesteps, loss_mask=mask).mse.max() == 0


def test_loss_mask_weighs_places() -> None:
    """Wrong by 1 in a quarter of the places, which count three times: 3 of 6 quarters."""
    loss, timesteps = DiffusionLoss(), torch.tensor([10, 500])
    output = torch.cat([NOISE, torch.zeros_like(NOISE)], dim=1)
    output[:, :4, :, :4, :4] += 1
    weights = torch.ones(2, 4, 8, 8)
    plain = loss(output, X0, NOISE, timesteps)
    even = loss(output, X0, NOISE, timesteps, loss_mask=weights)
    assert torch.allclose(even.mse, plain.mse) and torch.allclose(even.vb, plain.vb)
    assert torch.allclose(even.mse, torch.full((2,), 0.25), atol=1e-6)
    weights[..., :4, :4] = 3
    heavy = loss(output, X0, NOISE, timesteps, loss_mask=weights)
    assert torch.allclose(heavy.mse, torch.full((2,), 0.5), atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_each_frame_can_have_its_own_timestep(prediction: str) -> None:
    """The loss of frames at levels of their own is the mean of each frame's loss at its level."""
    draw = torch.Generator().manual_seed(0)
    loss = DiffusionLoss(prediction)
    x0, noise = (torch.randn(2, 4, 3, 4, 4, generator=draw) for _ in range(2))
    output = torch.randn(2, 8, 3, 4, 4, generator=draw)
    steps = torch.tensor([[0, 400, 999], [30, 0, 700]])
    noisy, terms = loss.add_noise(x0, noise, steps), loss(output, x0, noise, steps)
    apart = []
    for f in range(3):
        at = slice(f, f + 1)
        own = loss.add_noise(x0[:, :, at], noise[:, :, at], steps[:, f])
        assert torch.equal(noisy[:, :, at], own)
        apart.append(loss(output[:, :, at], x0[:, :, at], noise[:, :, at], steps[:, f]))
    torch.testing.assert_close(terms.mse, sum(part.mse for part in apart) / 3)
    torch.testing.assert_close(terms.vb, sum(part.vb for part in apart) / 3)


def test_wrong_channels_and_unknown_prediction_are_refused() -> None:
    with pytest.raises(ShapeError, match="need 8 channels"):
        DiffusionLoss()(NOISE, X0, NOISE, torch.tensor([1, 2]))
    with pytest.raises(ConfigError, match="epsilon or v_prediction"):
        DiffusionLoss("x0")
