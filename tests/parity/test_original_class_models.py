"""The original class, unconditional and joint models, by numbers taken from their code.

The weights are a formula, so the numbers need no file: key j of the sorted names is filled with
0.05 sin(0.37 i + j). Inputs there are (B, F, C, h, w); ours are (B, C, F, h, w).
"""

import pytest
import torch
from torch import Tensor

from latte_core.checkpoints import from_state_dict
from latte_core.checkpoints.keys import class_names, to_foreign
from latte_core.diffusion.loss import DiffusionLoss
from latte_core.model import Latte, ModelConfig

TABLES = {"pos_embed": (1, 16, 48), "temp_embed": (1, 4, 48)}
TIMESTEPS = torch.tensor([10, 500])
LABELS = torch.tensor([1, 3])


def original_state(classes: int) -> dict[str, Tensor]:
    """A state dict as the original class saves it, tables included."""
    conditioning = "class" if classes else "none"
    config = ModelConfig(
        hidden_size=48, depth=4, num_heads=4, conditioning=conditioning, num_classes=classes
    )
    names = to_foreign(Latte(config).state_dict(), class_names, config)
    state = {name: torch.zeros(shape) for name, shape in TABLES.items()}
    for j, name in enumerate(sorted(names)):
        i = torch.arange(names[name].numel(), dtype=torch.float64)
        state[name] = (0.05 * torch.sin(0.37 * i + j)).float().reshape(names[name].shape)
    return state


def cosine(frames: int, rate: float = 0.11) -> Tensor:
    i = torch.arange(2 * frames * 4 * 8 * 8, dtype=torch.float64)
    return torch.cos(rate * i).float().reshape(2, frames, 4, 8, 8).transpose(1, 2)


def run(model: Latte, latents: Tensor, labels: Tensor | None = None, images: int = 0) -> Tensor:
    """Output in the original order of axes."""
    with torch.no_grad():
        return model(latents, TIMESTEPS, class_labels=labels, num_images=images).transpose(1, 2)


def assert_golden(output: Tensor, mean: float, std: float, total: float, ends: list[float]) -> None:
    flat = output.double().flatten()
    assert flat.mean().item() == pytest.approx(mean, abs=1e-6)
    assert flat.std().item() == pytest.approx(std, abs=1e-4)
    assert flat.abs().sum().item() == pytest.approx(total, rel=1e-5)
    found = [*flat[: len(ends) - 1].tolist(), flat[-1].item()]
    assert found == pytest.approx(ends, abs=1e-4)


FIRST_CLASS = [-0.344724, 0.746229, -0.348676, 0.722172]
FIRST_PLAIN = [-0.346570, 0.748211, -0.351550, 0.724426]


@pytest.fixture(scope="module")
def plain() -> Latte:
    return from_state_dict(original_state(0), num_heads=4)


@pytest.fixture(scope="module")
def classes() -> Latte:
    return from_state_dict(original_state(5), num_heads=4)


def test_state_has_the_original_size() -> None:
    state = original_state(5)
    assert len(state) == 53
    assert sum(tensor.numel() for tensor in state.values()) == 191_792


def test_class_model(classes: Latte) -> None:
    output = run(classes, cosine(4), LABELS)
    assert output.shape == (2, 4, 8, 8, 8)
    assert_golden(output, 0.00557229, 0.39365833, 1390.642198, [*FIRST_CLASS, -0.276229])


def test_unconditional_model(plain: Latte) -> None:
    output = run(plain, cosine(4))
    assert_golden(output, 0.00555673, 0.39410654, 1392.132973, [*FIRST_PLAIN, -0.275371])


def test_class_guidance(classes: Latte) -> None:
    half = cosine(4)[:1]
    latents = torch.cat([half, half])
    with torch.no_grad():
        output = classes(latents, torch.tensor([10, 10]), class_labels=torch.tensor([1, 5]))
    cond, uncond = output[:, :4].chunk(2)
    guided = (uncond + 7.0 * (cond - uncond)).repeat(2, 1, 1, 1, 1)
    output = torch.cat([guided, output[:, 4:]], dim=1).transpose(1, 2)
    first = [-0.343361, 0.734341, -0.334734, 0.712521]
    assert_golden(output, 0.00583481, 0.39658263, 1396.438038, [*first, -0.447424])


def test_joint_unconditional_model(plain: Latte) -> None:
    output = run(plain, cosine(7), images=3)
    assert_golden(output, 0.00279643, 0.42895579, 2628.388605, [*FIRST_PLAIN, -0.053280])
    # Only the first sample's video has the same input when there are images behind it.
    assert torch.equal(output[0, :4], run(plain, cosine(7)[:, :, :4])[0])


def test_joint_class_model(classes: Latte) -> None:
    labels = torch.cat([LABELS[:, None], torch.tensor([[0, 1, 2], [2, 3, 4]])], dim=1)
    output = run(classes, cosine(7), labels, images=3)
    assert_golden(output, 0.00279980, 0.42859750, 2626.848341, [*FIRST_CLASS, -0.056460])


def test_tables(plain: Latte) -> None:
    space, time = plain.positions.space[0, 0], plain.positions.time[0, :, 0]
    row = [0.841471, 0.447671, 0.213781, 0.099833]
    assert space[5, 0:4].tolist() == pytest.approx(row, abs=1e-5)
    assert space[5, 24:28].tolist() == pytest.approx(row, abs=1e-5)
    assert space[1, 0:4].tolist() == pytest.approx(row, abs=1e-5)
    assert space[1, 24:28].tolist() == [0, 0, 0, 0]
    assert time[3, 0:3].tolist() == pytest.approx([0.141120, 0.890169, 0.984143], abs=1e-5)
    assert time[3, 24:27].tolist() == pytest.approx([-0.989992, -0.455630, 0.177376], abs=1e-5)


def test_timestep_features() -> None:
    from latte_core.model.conditioning import timestep_features

    features = timestep_features(torch.tensor([500]))[0]
    assert features[0:3].tolist() == pytest.approx([-0.883849, 0.945946, 0.848507], abs=1e-4)
    assert features[128:131].tolist() == pytest.approx([-0.467772, 0.324325, -0.529184], abs=1e-4)


@pytest.mark.parametrize(
    ("timesteps", "mse", "vb"),
    [
        ([10, 500], [0.573988, 0.619094], [0.062804, 0.004923]),
        ([0, 999], [0.573280, 0.625508], [2.031278, 0.009209]),
    ],
)
def test_training_loss(
    plain: Latte, timesteps: list[int], mse: list[float], vb: list[float]
) -> None:
    i = torch.arange(2 * 4 * 4 * 8 * 8, dtype=torch.float64)
    noise = torch.sin(0.23 * i).float().reshape(2, 4, 4, 8, 8).transpose(1, 2)
    x0, loss, at = 0.5 * cosine(4), DiffusionLoss(), torch.tensor(timesteps)
    with torch.no_grad():
        terms = loss(plain(loss.add_noise(x0, noise, at), at), x0, noise, at)
    assert terms.mse.tolist() == pytest.approx(mse, abs=2e-6)
    assert terms.vb.tolist() == pytest.approx(vb, abs=2e-6)
    assert terms.total.item() == pytest.approx((sum(mse) + sum(vb)) / 2, abs=2e-6)
