"""What tasks share: timesteps, DDIM samples, sheets."""

import numpy as np
import pytest
import torch

from latte_core.diffusion.loss import DiffusionLoss
from latte_core.training.sampling import (
    Draws,
    diffusion_losses,
    draw_timesteps,
    lay_out,
    sample_ddim,
)


def test_timesteps_cover_the_chain():
    draw = torch.Generator().manual_seed(0)
    middle, uniform = (draw_timesteps(kind, 4000, draw) for kind in ("middle", "uniform"))
    for steps in (middle, uniform):
        assert 0 <= int(steps.min()) < 20
        assert 980 < int(steps.max()) <= 999
    inner = [float(((s > 250) & (s < 750)).float().mean()) for s in (middle, uniform)]
    assert inner[1] == pytest.approx(0.5, abs=0.03)
    noisy, spread = (draw_timesteps(kind, 4000, draw) for kind in ("noisy", "spread"))
    late = [float((s >= 700).float().mean()) for s in (noisy, spread, uniform)]
    assert late == pytest.approx([0.7 + 0.3 * 0.3, 0.3 + 0.4 * 0.3 + 0.3 * 0.198, 0.3], abs=0.03)
    # logistic normal: P(|z| < ln 3) = 0.728, mixed half and half with 0.5
    assert inner[0] == pytest.approx(0.614, abs=0.03)
    single = draw_timesteps("single", 4000, draw)
    # P(z < 0) = 0.5 around the centre of 0.35, mixed half and half with 0.35
    assert float((single < 350).float().mean()) == pytest.approx(0.425, abs=0.03)


def _told(image_timesteps):
    """What noised clips of four frames and two stills are made of, and what is told of them."""
    seen = {}

    def forward(noisy, steps):
        seen.update(noisy=noisy, told=steps)
        return torch.zeros_like(noisy)

    draw = torch.Generator().manual_seed(3)
    objective = DiffusionLoss("v_prediction", learned_variance=False)
    x0 = torch.full((200, 1, 6, 8, 8), 100.0)  # so large that noise hides none of the level
    draws = Draws("noisy", 2, image_timesteps)
    diffusion_losses(objective, x0, draws, draw, forward)
    levels = objective._tables["signal"].float() * 100
    mean = seen["noisy"].mean(dim=(1, 3, 4))
    return seen["told"], (mean[..., None] - levels).abs().argmin(-1)


def test_stills_share_their_clips_timestep_or_draw_their_own():
    told, made = _told(None)
    assert told.shape == (200,)
    late = told < 800  # beyond it signals are too alike to be read off
    assert ((made - told[:, None]).abs()[late] < 30).all()
    told, made = _told("single")
    assert told.shape == (200, 3)
    frames = torch.cat([told[:, :1].expand(-1, 4), told[:, 1:]], dim=1)
    assert ((made - frames).abs()[frames < 800] < 30).all()
    assert float(told[:, 0].float().mean()) > 700 > 500 > float(told[:, 1:].float().mean())
    assert (told[:, 1] != told[:, 2]).float().mean() > 0.9


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ddim_finds_the_clip_that_the_prediction_points_at(prediction):
    """A perfect prediction leads from any noise to the one clip that there is."""
    objective = DiffusionLoss(prediction)
    clip = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    start = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def perfect(x, time):
        zeros = torch.zeros_like(x)
        signal = objective.add_noise(torch.ones_like(x), zeros, time)
        spread = objective.add_noise(zeros, torch.ones_like(x), time)
        noise = (x - signal * clip) / spread
        return noise if prediction == "epsilon" else signal * noise - spread * clip

    torch.testing.assert_close(sample_ddim(perfect, start, objective, 4), clip, rtol=0, atol=2e-3)
    away = sample_ddim(lambda x, time: perfect(x, time) + 0.5, start, objective, 4)
    assert not torch.allclose(away, clip, atol=0.1)


def test_sheet_is_filled_column_by_column():
    cells = [np.full((2, 3, 3), 10 * n, np.uint8) for n in range(1, 4)]
    sheet = np.asarray(lay_out(cells, 2))
    assert sheet.shape == (4, 6, 3)
    assert [int(sheet[y, x, 0]) for x in (0, 3) for y in (0, 2)] == [10, 20, 30, 0]
    assert lay_out(cells, 2, scale=2).size == (12, 8)
