"""Stills behind a video: they change nothing about it, and get what the config promises."""

import pytest
import torch
from model_builders import noise, random_model, relative, text, tiny
from torch import Tensor

from latte_core.errors import ShapeError
from latte_core.model import Latte, ModelConfig, preset

AT = torch.tensor([10, 500])
LATENTS = noise(2, 4, 7, 8, 8)


@torch.no_grad()
def run(model: Latte, latents: Tensor, images: int = 0, **conditions: Tensor) -> Tensor:
    return model(latents, AT[: len(latents)], num_images=images, **conditions)


def conditions(config: ModelConfig) -> dict[str, Tensor]:
    if config.conditioning == "text":
        return {"prompt_embeds": noise(2, 7, 20, seed=5)}
    return {"class_labels": torch.tensor([1, 2])} if config.conditioning == "class" else {}


CONFIGS = [
    *(tiny(variant=v, images=i) for v in (1, 2, 3, 4) for i in ("bypass", "length_one")),
    tiny(variant=3, temporal_positions="rope", conditioning="class", num_classes=3),
    tiny(injection="all_tokens", conditioning="class", num_classes=3),
    text(),
    text(images="length_one"),
    text(variant=4, injection="adaln_zero"),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_appended_images_leave_the_video_bit_equal(config: ModelConfig) -> None:
    model, given = random_model(config), conditions(config)
    joint = run(model, LATENTS, 3, **given)
    assert torch.equal(joint[:, :, :4], run(model, LATENTS[:, :, :4], **given))


def test_appended_images_leave_a_wide_model_bit_equal() -> None:
    config = preset("S/2", depth=2, sample_size=16, num_frames=4)
    model = random_model(config)
    latents = noise(1, 4, 6, 16, 16)
    assert torch.equal(run(model, latents, 2)[:, :, :4], run(model, latents[:, :, :4]))


def test_control_a_changed_frame_changes_the_others() -> None:
    """The equality above is not there because frames never meet."""
    model = random_model(tiny())
    changed = LATENTS[:, :, :4].clone()
    changed[:, :, 3] += 1
    before, after = run(model, LATENTS[:, :, :4]), run(model, changed)
    assert relative(after[:, :, 0], before[:, :, 0]) > 1e-3


@pytest.mark.parametrize("config", CONFIGS)
def test_a_still_in_joint_mode_is_the_still_alone(config: ModelConfig) -> None:
    """Stills do not see the video nor one another, and a video of one frame is a still."""
    model, given = random_model(config), conditions(config)
    joint = run(model, LATENTS, 3, **given)
    alone = run(model, LATENTS[:, :, 5:6], **given)
    assert relative(joint[:, :, 5:6], alone) < 1e-5
    only = run(model, LATENTS[:, :, 4:], 3, **given)
    assert relative(only[:, :, 1:2], alone) < 1e-5


def test_bypass_goes_round_temporal_blocks_whole() -> None:
    model = random_model(tiny())
    before = run(model, LATENTS, 3)
    for block in model.blocks[1::2]:
        block.mlp.fc2.weight.data += 1
        block.attn["time"].proj.weight.data += 1
    after = run(model, LATENTS, 3)
    assert torch.equal(after[:, :, 4:], before[:, :, 4:])
    assert relative(after[:, :, :4], before[:, :, :4]) > 1e-2


def test_length_one_runs_temporal_blocks_on_each_still() -> None:
    bypass, length_one = random_model(tiny()), random_model(tiny(images="length_one"))
    assert relative(run(length_one, LATENTS, 3)[:, :, 4:], run(bypass, LATENTS, 3)[:, :, 4:]) > 1e-2


@pytest.mark.parametrize("images", ["bypass", "length_one"])
def test_each_still_can_have_its_own_prompt(images: str) -> None:
    model = random_model(text(images=images))
    prompts = noise(2, 4, 7, 20, seed=5)  # the video's, then three images'
    mask = torch.ones(2, 4, 7)
    mask[:, 2, 3:] = 0
    joint = run(model, LATENTS, 3, prompt_embeds=prompts, prompt_attention_mask=mask)
    video = run(model, LATENTS[:, :, :4], prompt_embeds=prompts[:, 0])
    assert relative(joint[:, :, :4], video) < 1e-6
    for i in range(3):
        kept = prompts[:, 1 + i, : 3 if i == 1 else 7]
        still = run(model, LATENTS[:, :, 4 + i : 5 + i], prompt_embeds=kept)
        assert relative(joint[:, :, 4 + i : 5 + i], still) < 1e-5
    shared = run(model, LATENTS, 3, prompt_embeds=prompts[:, 0])
    assert relative(shared[:, :, 4:], joint[:, :, 4:]) > 1e-3


@pytest.mark.parametrize("injection", ["adaln_zero", "adaln_single", "all_tokens"])
def test_each_still_can_have_its_own_class(injection: str) -> None:
    model = random_model(tiny(conditioning="class", num_classes=5, injection=injection))
    labels = torch.tensor([[1, 0, 2, 4], [3, 5, 5, 1]])
    joint = run(model, LATENTS, 3, class_labels=labels)
    video = run(model, LATENTS[:, :, :4], class_labels=labels[:, 0])
    assert relative(joint[:, :, :4], video) < 1e-5
    for i in range(3):
        still = run(model, LATENTS[:, :, 4 + i : 5 + i], class_labels=labels[:, 1 + i])
        assert relative(joint[:, :, 4 + i : 5 + i], still) < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        text(images="length_one"),
        tiny(injection="all_tokens"),
        tiny(conditioning="class", num_classes=3),
    ],
)
def test_each_still_can_have_its_own_timestep(config: ModelConfig) -> None:
    """What training with each still at a noise level of its own computes."""
    model, given = random_model(config), conditions(config)
    steps = torch.tensor([[10, 700, 40, 990], [500, 3, 250, 800]])
    joint = model(LATENTS, steps, num_images=3, **given)
    video = model(LATENTS[:, :, :4], steps[:, 0], **given)
    assert relative(joint[:, :, :4], video) < 1e-6
    for i in range(3):
        still = model(LATENTS[:, :, 4 + i : 5 + i], steps[:, 1 + i], **given)
        assert relative(joint[:, :, 4 + i : 5 + i], still) < 1e-5
    shared = model(LATENTS, steps[:, 0], num_images=3, **given)
    assert relative(shared[:, :, 4:], joint[:, :, 4:]) > 1e-3


def test_timesteps_that_fit_no_frames_are_refused() -> None:
    model = random_model(tiny())
    with pytest.raises(ShapeError, match=r"\(2, 3\) do not fit.*\(2,\).*\(2, 4\)"):
        model(LATENTS, torch.zeros(2, 3), num_images=3)
