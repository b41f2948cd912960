"""The four variants compute four different things, and agree where theory says so.

Weights go by role: the k-th space attention has the same weights in every variant, likewise the
k-th time attention, MLP and modulation. Then only the layout can make a difference.
"""

import zlib
from itertools import combinations

import pytest
import torch
from model_builders import noise, relative, tiny
from torch import Tensor, nn

from latte_core.model import Latte
from latte_core.model.block import Context

DEPTHS = {1: 4, 2: 4, 3: 2, 4: 2}


def fill(module: nn.Module, role: str) -> None:
    for name, parameter in module.named_parameters():
        seed = zlib.crc32(f"{role}.{name}".encode())
        width = parameter.shape[-1] if parameter.ndim > 1 else 4
        parameter.data = noise(*parameter.shape, seed=seed) * width**-0.5


def by_role(variant: int, **fields: object) -> Latte:
    """Rope, so that no table is added at a place that depends on the variant."""
    values = {"depth": DEPTHS[variant], "sum_heads": "full", "temporal_positions": "rope"}
    model = Latte(tiny(variant=variant, **(values | fields))).eval()
    for part in ("patch", "timestep", "head"):
        fill(getattr(model, part), part)
    counts: dict[str, int] = {}
    for block in model.blocks:
        parts = {"mlp": block.mlp, "modulation": block.modulation} | dict(block.attn.items())
        for role, part in parts.items():
            counts[role] = counts.get(role, 0) + 1
            fill(part, f"{role}{counts[role]}")
    return model


@torch.no_grad()
def run(model: Latte) -> Tensor:
    return model(noise(2, 4, 4, 8, 8), torch.tensor([10, 500]))


@pytest.mark.parametrize(("a", "b"), list(combinations(DEPTHS, 2)))
def test_variants_differ(a: int, b: int) -> None:
    assert relative(run(by_role(a)), run(by_role(b))) > 1e-2


def test_control_variants_1_and_2_agree_at_depth_2() -> None:
    assert torch.equal(run(by_role(1, depth=2)), run(by_role(2, depth=2)))


def test_control_variants_3_and_4_agree_without_time_attention() -> None:
    models = by_role(3), by_role(4)
    for model in models:
        for block in model.blocks:
            nn.init.zeros_(block.attn["time"].proj.weight)
            nn.init.zeros_(block.attn["time"].proj.bias)
    assert relative(run(models[0]), run(models[1])) < 1e-6


def test_control_variant_1_without_the_space_mlp_is_variant_3() -> None:
    interleaved, factorised = by_role(1, depth=2), by_role(3, depth=1)
    space, time = interleaved.blocks
    nn.init.zeros_(space.mlp.fc2.weight)
    nn.init.zeros_(space.mlp.fc2.bias)
    time.modulation = space.modulation
    factorised.blocks[0].mlp, factorised.blocks[0].modulation = time.mlp, space.modulation
    assert relative(run(factorised), run(interleaved)) < 1e-6


def test_variant_4_sums_two_attentions_of_one_input() -> None:
    """Both halves read the same normalised tokens, each with its own half of the heads."""
    model = by_role(4, depth=1, sum_heads="half")
    block, h = model.blocks[0], noise(1, 4, 16, 48)
    layers = [block.attn[axis] for axis in ("space", "time")]
    assert [layer.qkv.weight.shape for layer in layers] == [(72, 48), (72, 48)]
    assert [layer.num_heads for layer in layers] == [2, 2]
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)
    vectors = torch.zeros(6, 48)
    vectors[2] = 1  # the attention gate; no shift, no scale
    nn.init.zeros_(block.modulation.linear.weight)
    block.modulation.linear.bias.data = vectors.flatten()
    normal = nn.functional.layer_norm(h, (48,), eps=1e-6)
    rows = layers[0](normal.flatten(0, 1)).reshape(h.shape)
    columns = layers[1](normal.transpose(1, 2).flatten(0, 1)).reshape(1, 16, 4, 48).transpose(1, 2)
    out = block(h, Context(torch.zeros(1, 1, 1, 48), None, None, stills=False))
    assert relative(out, h + rows + columns) < 1e-6


@pytest.mark.parametrize("variant", DEPTHS)
@pytest.mark.parametrize("injection", ["adaln_zero", "adaln_single", "all_tokens"])
@pytest.mark.parametrize("patch_frames", [1, 2])
def test_every_axis_of_the_design_combines(variant: int, injection: str, patch_frames: int) -> None:
    config = tiny(
        variant=variant,
        injection=injection,
        patch_frames=patch_frames,
        conditioning="class",
        num_classes=3,
        chain_modulation="own",
    )
    model = Latte(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    latents, labels = noise(2, 4, 4, 8, 12), torch.tensor([0, 3])
    out = model(latents, torch.tensor([1, 2]), class_labels=labels)
    assert out.shape == (2, 8, 4, 8, 12)
    out.square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    other = model(latents, torch.tensor([1, 900]), class_labels=torch.tensor([2, 3]))
    assert relative(out[0], other[0]) > 1e-3, "the class acts"
    assert relative(out[1], other[1]) > 1e-3, "the timestep acts"
