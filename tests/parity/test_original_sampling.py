"""Class models sample as the original does: its formulas, written here in float64, against ours.

Formulas: Gaussian diffusion of Improved DDPM (arXiv 2102.09672) with respaced betas, as the
original Latte samples with; nothing in this file calls a scheduler of ours or of diffusers.
"""

import numpy as np
import pytest
import torch
from tiny_class_folder import CLASSES, write_tiny_class_folder
from tiny_folder import FRAMES, SIZE

from latte_core import Engine, GenerationRequest
from latte_core.checkpoints import load_transformer
from latte_core.diffusion.schedulers import make_scheduler

SHAPE = (1, 4, FRAMES, SIZE // 8, SIZE // 8)
NULL = len(CLASSES)
BARS = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
LEARNED, SMALL, LARGE = "learned_range", "fixed_small", "fixed_large"


def respaced(steps):
    """Original timesteps of a chain of `steps`: equal real strides over 0..999, rounded."""
    stride = 999 / (steps - 1) if steps > 1 else 1.0
    position, taken = 0.0, []
    for _ in range(steps):
        taken.append(round(position))
        position += stride
    return taken


class Chain:
    """The respaced chain's tables, each (steps,)."""

    def __init__(self, steps):
        self.times = respaced(steps)
        self.bars = BARS[self.times]
        self.before = np.append(1.0, self.bars[:-1])
        self.betas = 1 - self.bars / self.before
        posterior = self.betas * (1 - self.before) / (1 - self.bars)
        self.log_posterior = np.log(np.append(posterior[1:2], posterior[1:]))
        self.by_x0 = self.betas * np.sqrt(self.before) / (1 - self.bars)
        self.by_xt = (1 - self.before) * np.sqrt(1 - self.betas) / (1 - self.bars)

    def x0(self, i, x, eps):
        return np.sqrt(1 / self.bars[i]) * x - np.sqrt(1 / self.bars[i] - 1) * eps

    def ddpm(self, i, x, output, noise, kind):
        """p_mean_variance, then a draw; no noise at the last step."""
        eps = output[:, :4]
        mean = self.by_x0[i] * self.x0(i, x, eps) + self.by_xt[i] * x
        low, high = self.log_posterior[i], np.log(self.betas[i])
        if kind == LEARNED:
            share = (output[:, 4:] + 1) / 2
            log_var = share * high + (1 - share) * low
        else:
            log_var = low if kind == SMALL else high
        return mean + (i > 0) * np.exp(0.5 * log_var) * noise

    def ddim(self, i, x, output):
        """DDIM with eta 0."""
        x0 = self.x0(i, x, output[:, :4])
        eps = (np.sqrt(1 / self.bars[i]) * x - x0) / np.sqrt(1 / self.bars[i] - 1)
        return np.sqrt(self.before[i]) * x0 + np.sqrt(1 - self.before[i]) * eps


def guided_output(model, x, time, label, scale):
    """The original's forward with guidance: both halves see the first half's latents, the noise
    channels are extrapolated, the variance is each half's own and the second half is dropped."""
    x, times = torch.from_numpy(x).float(), torch.tensor([time, time])
    with torch.no_grad():
        if label is None:
            return model(x, times[:1]).double().numpy()
        if scale == 1:
            return model(x, times[:1], class_labels=torch.tensor([label])).double().numpy()
        labels = torch.tensor([label, NULL])
        both = model(torch.cat([x, x]), times, class_labels=labels).double().numpy()
    cond, uncond = both[:1, :4], both[1:, :4]
    return np.concatenate([uncond + scale * (cond - uncond), both[:1, 4:]], axis=1)


def original_sample(folder, method, steps, label, scale=1.0, kind=LEARNED):
    """Noise and latents of the whole loop."""
    model, chain = load_transformer(folder / "transformer"), Chain(steps)
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(SHAPE, generator=generator).numpy()
    x = first.astype(np.float64)
    for i in reversed(range(steps)):
        output = guided_output(model, x, chain.times[i], label, scale)
        if method == "ddim":
            x = chain.ddim(i, x, output)
        else:
            noise = torch.randn(SHAPE, generator=generator).numpy() if i else np.zeros(SHAPE)
            x = chain.ddpm(i, x, output, noise, kind)
    return first, x


def check(folder, method, steps, label=None, scale=1.0, kind=LEARNED):
    first, expected = original_sample(folder, method, steps, label, scale, kind)
    with Engine.load(folder) as engine:
        made = engine.generate(
            GenerationRequest(
                class_label=label,
                seed=3,
                num_inference_steps=steps,
                guidance_scale=scale,
                scheduler=method,
            )
        )
    assert np.array_equal(made.initial_latents, first)
    assert difference(made.latents, expected) < 2e-5
    assert difference(made.latents, first) > 0.1
    return made.latents


def difference(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_class_folder(tmp_path_factory.mktemp("class") / "m")


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    return write_tiny_class_folder(tmp_path_factory.mktemp("none") / "m", num_classes=0)


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 50, 100, 250])
def test_timesteps_are_the_originals(steps):
    expected = respaced(steps)
    for name in ("ddpm", "ddim"):
        scheduler = make_scheduler(name, {"timestep_spacing": "linspace", "clip_sample": False})
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == expected[::-1]


def test_the_respacing_here_is_the_published_one():
    assert respaced(250)[:3] == [0, 4, 8]
    assert respaced(250)[-3:] == [991, 995, 999]
    assert respaced(50)[:4] == [0, 20, 41, 61]
    assert respaced(50)[-2:] == [979, 999]


def test_the_published_settings_equal_the_originals_loop(tmp_path):
    folder = write_tiny_class_folder(tmp_path / "m", hidden_size=24, depth=2, num_heads=2)
    check(folder, "ddpm", 250, label=3, scale=7.0)


@pytest.mark.parametrize("method", ["ddpm", "ddim"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_few_steps_with_classes_equal_the_originals_loop(folder, method, scale):
    made = check(folder, method, 12, label=1, scale=scale)
    _, other = original_sample(folder, method, 12, label=2, scale=scale)
    assert difference(made, other) > 0.01  # positive control: the class matters


@pytest.mark.parametrize("method,steps", [("ddpm", 30), ("ddim", 30)])
def test_unconditional_models_equal_the_originals_loop(free, method, steps):
    check(free, method, steps)


@pytest.mark.parametrize("kind", [SMALL, LARGE])
def test_fixed_variance_equals_the_originals_loop(tmp_path, kind):
    folder = write_tiny_class_folder(
        tmp_path / "m", out_channels=4, scheduler={"variance_type": kind}
    )
    check(folder, "ddpm", 12, label=0, scale=3.0, kind=kind)
    _, other = original_sample(folder, "ddpm", 12, 0, 3.0, LARGE if kind == SMALL else SMALL)
    _, expected = original_sample(folder, "ddpm", 12, 0, 3.0, kind)
    assert difference(other, expected) > 1e-3  # positive control: the variance matters


@pytest.mark.parametrize("variant", [2, 3, 4])
def test_the_other_variants_sample_by_the_same_loop(tmp_path, variant):
    folder = write_tiny_class_folder(tmp_path / "m", variant=variant)
    check(folder, "ddpm", 8, label=4, scale=7.0)


def test_the_variance_that_the_model_learned_is_used(folder):
    """Positive control: the same loop with a fixed variance is another video."""
    _, learned = original_sample(folder, "ddpm", 12, 1, 4.0)
    _, fixed = original_sample(folder, "ddpm", 12, 1, 4.0, SMALL)
    assert difference(fixed, learned) > 1e-3
