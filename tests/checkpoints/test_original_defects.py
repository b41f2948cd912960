"""Defects of the original code that concern its checkpoints and its networks, each as a test.

The numbers are those of the list in the project's notes on the original. Others of the list are
tested where they belong: attention back ends (1, 2), the VAE's folder (7), schedulers (12).
"""

import pytest
import torch
from original_files import Size, class_shapes, fill
from tiny_models import T2V
from torch import Tensor, nn

from latte_core.checkpoints import from_state_dict
from latte_core.errors import CheckpointError
from latte_core.model import Latte

SMALL = Size(blocks=2)
HEADS = {"num_heads": 4}


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def same(a: Latte, b: Latte) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return a.config == b.config and all(torch.equal(x, y) for x, y in pairs)


class Original(nn.Module):
    """A module with the original's parameter names, to be wrapped as training scripts wrap it."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place._modules[part]
            place.register_parameter(last, nn.Parameter(tensor))


def test_9_a_compiled_models_file_loads() -> None:
    """torch.compile and data parallel training put prefixes before every name, in any order."""
    state = fill(class_shapes(SMALL, 6))
    plain = from_state_dict(state, **HEADS)
    wrapped = {
        "compiled": torch.compile(Original(state)),
        "parallel": nn.DataParallel(Original(state)),
        "both": torch.compile(nn.DataParallel(Original(state))),
        "both, turned round": nn.DataParallel(torch.compile(Original(state))),
    }
    for how, module in wrapped.items():
        names = module.state_dict()
        assert not names.keys() & state.keys(), how  # the prefixes are there
        assert same(from_state_dict({"model": names}, **HEADS), plain), how


@pytest.mark.parametrize("rows", [2, 6, 102])
def test_10_the_null_class_is_the_last_row_of_any_table(rows: int) -> None:
    """The original takes class 101 whatever the table."""
    state = fill(class_shapes(SMALL, rows))
    model = from_state_dict(state, **HEADS)
    assert model.config.num_classes == rows - 1
    table = "y_embedder.embedding_table.weight"
    silent = from_state_dict(state | {table: torch.zeros_like(state[table])}, **HEADS)
    clip, at = noise(1, 4, 4, 8, 8), torch.tensor([7])
    shifted = dict(state)
    bias = "t_embedder.mlp.2.bias"
    shifted[bias] = state[bias] + state[table][-1]
    shifted[table] = torch.zeros_like(state[table])
    with torch.no_grad():
        null = model(clip, at, class_labels=torch.tensor([rows - 1]))
        wanted = from_state_dict(shifted, **HEADS)(clip, at, class_labels=torch.tensor([0]))
        assert (null - wanted).abs().max() < 1e-5 * wanted.abs().max()
        assert not torch.equal(null, silent(clip, at, class_labels=torch.tensor([rows - 1])))


def test_10_latents_need_not_be_square() -> None:
    """The original takes the root of the number of tokens for both sides.

    With the columns of the kernel and of the head exchanged for the rows, and position tables that
    are told apart by halves, a turned clip gives the turned output.
    """
    state = fill(class_shapes(SMALL))
    model = from_state_dict(state, **HEADS)
    turned = dict(state)
    turned["x_embedder.proj.weight"] = state["x_embedder.proj.weight"].transpose(2, 3).contiguous()
    for kind in ("weight", "bias"):
        head = state[f"final_layer.linear.{kind}"]
        patch = head.unflatten(0, (2, 2, 8)).transpose(0, 1)
        turned[f"final_layer.linear.{kind}"] = patch.flatten(0, 2).contiguous()
    other = from_state_dict(turned, **HEADS)
    clip, at = noise(1, 4, 4, 8, 12), torch.tensor([7])
    for one in (model, other):
        one.positions.space.zero_()
        one.positions.grid = None  # the table is made anew for this size
    with torch.no_grad():
        found = model(clip, at)
        assert found.shape == (1, 8, 4, 8, 12)
        halves = other.positions.add_space

        def exchanged(x: Tensor, grid: object) -> Tensor:
            table = halves(torch.zeros_like(x), grid)
            return x + torch.cat(table.chunk(2, dim=-1)[::-1], dim=-1)

        other.positions.add_space = exchanged  # type: ignore[method-assign]
        back = other(clip.transpose(3, 4), at).transpose(3, 4)
    assert (found - back).abs().max() < 1e-5 * found.abs().max()


@pytest.mark.parametrize("checkpointing", [True, False])
def test_13_joint_training_keeps_the_table_of_time(checkpointing: bool) -> None:
    """The original forgets it for text with images unless activations are recomputed."""
    config = T2V
    torch.manual_seed(0)
    model = Latte(config).train()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.2
    model.gradient_checkpointing = checkpointing
    latents, at, prompt = noise(1, 4, 6, 8, 8), torch.tensor([9]), noise(1, 3, 7, 20)
    joint = model(latents, at, prompt, num_images=2)
    video = model(latents[:, :, :4], at, prompt[:, 0])
    assert torch.equal(joint[:, :, :4], video)
    model.positions.time.zero_()
    without = model(latents, at, prompt, num_images=2)
    assert (without[:, :, :4] - video).abs().max() > 1e-3 * video.abs().max()
    assert torch.equal(without[:, :, 4:], joint[:, :, 4:])


def test_tables_of_another_size_are_no_error_but_weights_are() -> None:
    """A file of 256 pixels at 512: its table is computed, everything else has to fit."""
    state = fill(class_shapes(SMALL))
    assert from_state_dict(state, sample_size=16, **HEADS).positions.space.shape[2] == 64
    with pytest.raises(CheckpointError, match=r"x_embedder\.proj\.weight has shape"):
        from_state_dict(state, patch_size=4, out_channels=4, **HEADS)
