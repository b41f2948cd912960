"""The command `convert` for tests: run it, be refused by it, and what it is given."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from original_files import Size
from safetensors.torch import load_file

from latte_core import cli

SIZE = Size()
HEADS = ("--set", "num_heads=4")
T2V_FIELDS = (*HEADS, "--set", "sample_size=8", "--set", "num_frames=8")


def run(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of the command."""
    try:
        code = cli.main(["convert", *map(str, arguments)])
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys: pytest.CaptureFixture, folder: Path, *arguments: object) -> str:
    """The sentence that refuses; `folder` holds afterwards what it held."""
    before = sorted(path.name for path in folder.iterdir())
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert sorted(path.name for path in folder.iterdir()) == before
    return err


def saved(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def small_vae(folder: Path, channels: int = 4) -> Path:
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=channels,
    ).save_pretrained(folder)
    return folder


def t2v_file(tiny_folder: Path, path: Path, y_embedding: bool) -> Path:
    """The tiny folder's transformer as t2v.pt has it."""
    state = load_file(tiny_folder / "transformer/diffusion_pytorch_model.safetensors")
    if y_embedding:
        state["caption_projection.y_embedding"] = torch.zeros(120, 32)
    return saved(path, {"ema": state})
