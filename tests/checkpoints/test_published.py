"""What is known of the published models: settings, classes, and every name of their files."""

import pytest
import torch
from diffusers import DDPMScheduler
from original_files import XL, class_shapes, hollow, t2v_shapes

from latte_core.checkpoints.keys import to_own
from latte_core.checkpoints.published import (
    CLASS_SCHEDULER,
    KINDS,
    class_names,
    find_defaults,
    find_kind,
)
from latte_core.checkpoints.recognise import recognise
from latte_core.model import Latte, ModelConfig, preset


def test_the_scheduler_has_the_original_steps() -> None:
    """The original's "250": both ends of 0..999, a fractional stride between, rounded."""
    scheduler = DDPMScheduler.from_config(dict(CLASS_SCHEDULER))
    scheduler.set_timesteps(250)
    steps = scheduler.timesteps.flip(0).tolist()
    assert steps[:3] == [0, 4, 8]
    assert steps[-3:] == [991, 995, 999]
    assert steps == [round(n * 999 / 249) for n in range(250)]
    assert scheduler.alphas_cumprod[499].item() == pytest.approx(0.0785872, rel=1e-5)
    assert scheduler.config.variance_type == "learned_range"


@pytest.mark.parametrize(
    ("stem", "config", "kind"),
    [
        ("ffs", preset("XL/2"), "ffs"),
        ("taichi-hd", preset("XL/2"), "taichi-hd"),
        ("0100000", preset("XL/2"), "none"),
        ("ffs", preset("XL/2", conditioning="class", num_classes=101), "ucf101"),
        ("ucf101", preset("XL/2", conditioning="class", num_classes=5), "none"),
    ],
)
def test_the_kind_is_found(stem: str, config: ModelConfig, kind: str) -> None:
    assert find_kind(None, stem, config, image=False) == kind
    assert find_kind(None, stem, config, image=True) == "none"


@pytest.mark.parametrize("kind", ["ffs", "skytimelapse", "taichi-hd"])
def test_published_settings(kind: str) -> None:
    d = find_defaults(kind, preset("XL/2"), 8)
    found = (d.num_inference_steps, d.guidance_scale, d.num_frames, d.height, d.fps, d.scheduler)
    assert found == (250, 1.0, 16, 256, 8, "ddpm")
    assert KINDS[kind].num_classes == 0


def test_ucf101_is_named_as_the_original_numbered_it() -> None:
    """Python's order of the folders' names: capitals first, unlike in UCF101's own list."""
    names = class_names("ucf101", preset("XL/2", conditioning="class", num_classes=101))
    assert len(set(names)) == 101
    assert names == sorted(names)
    assert names.index("HammerThrow") + 1 == names.index("Hammering")
    assert names.index("JumpRope") + 1 == names.index("JumpingJack")


@pytest.mark.parametrize(
    ("shapes", "tensors", "elements"),
    [
        (class_shapes(XL), 292, 673_994_912),
        (class_shapes(XL, 102), 293, 674_112_416),
        (t2v_shapes(XL, y_embedding=False), 967, 1_057_246_880),
        (t2v_shapes(XL), 968, 1_057_246_880 + 120 * 4096),
    ],
)
def test_published_files_fit_without_data(
    shapes: dict[str, tuple[int, ...]], tensors: int, elements: int
) -> None:
    """Every name and shape of the files at full size has its place, and none is left over."""
    assert len(shapes) == tensors
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == elements
    found = recognise(hollow(shapes), {})
    with torch.device("meta"):
        model = Latte(found.config)
    own = to_own(found.weights, found.layout.names, model.state_dict())
    assert {k: t.shape for k, t in own.items()} == {
        k: t.shape for k, t in model.state_dict().items()
    }
    assert (found.config.num_heads, found.config.num_frames) == (16, 16)
    if not found.config.is_t2v:
        assert model.num_parameters == elements - (256 + 16) * 1152
        assert found.config.sample_size == 32
