"""`convert` refuses by a sentence, and then leaves everything as it was."""

import shutil
from pathlib import Path

import pytest
import torch
from convert_command import (
    HEADS,
    SIZE,
    T2V_FIELDS,
    refused,
    run,
    saved,
    small_vae,
    t2v_file,
)
from original_files import class_shapes, fill

from latte_core.checkpoints import check_layout


def test_missing_surplus_and_misshapen_weights_are_named(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    state = fill(class_shapes(SIZE, 6))
    name = "blocks.2.mlp.fc1.bias"
    cases = {
        f"lack {name}": {n: t for n, t in state.items() if n != name},
        "such as blocks.2.mlp.fc3.bias": state | {"blocks.2.mlp.fc3.bias": torch.ones(3)},
        f"{name} has shape (5,)": state | {name: torch.ones(5)},
        f"{name} holds NaN": state | {name: torch.full((192,), torch.nan)},
        "text_embedding_projection": state | {"text_embedding_projection.1.bias": torch.ones(48)},
    }
    for words, broken in cases.items():
        file = saved(tmp_path / "model.pt", broken)
        assert words in refused(capsys, tmp_path, file, tmp_path / "out", *HEADS)


def test_what_cannot_be_is_refused(
    capsys: pytest.CaptureFixture, tmp_path: Path, tiny_folder: Path
) -> None:
    file = saved(tmp_path / "model.pt", fill(class_shapes(SIZE, 6)))
    t2v = t2v_file(tiny_folder, tmp_path / "t2v.pt", True)
    (tmp_path / "other.txt").write_text("hello")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    wrong = small_vae(tmp_path / "wrong", channels=8)
    pickles = tmp_path / "pickles"
    shutil.copytree(tiny_folder, pickles)
    (pickles / "text_encoder/model.safetensors").rename(pickles / "text_encoder/pytorch_model.bin")
    out = tmp_path / "out"
    cases: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "none.pt", out), "none.pt does not exist"),
        ((tmp_path / "other.txt", out), "other.txt is of no kind that is read here"),
        ((tmp_path / "full", out), "holds no config.json"),
        ((file, out), "Width 48 is of no published size"),
        ((file, out, "--set", "heads=4"), "Unknown model settings: heads"),
        ((file, out, "--set", "num_heads"), "has to look like num_heads=6"),
        ((file, out, *HEADS, "--set", "depth=5"), "even number of blocks"),
        ((file, out, *HEADS, "--dtype", "int8"), "dtype is 'int8'; it can be float32"),
        ((file, out, *HEADS, "--kind", "ucf101"), "kind is ucf101, which has 101 classes"),
        ((file, out, *HEADS, "--kind", "ffs"), "conditioning 'none', but the weights have 'class'"),
        ((file, out, *HEADS, "--vae", wrong), "wrong has 8 latent channels, the transformer 4"),
        ((file, out, *HEADS, "--vae", tmp_path / "full"), "full/config.json is missing"),
        ((file, out, *HEADS, "--vae", tiny_folder / "transformer"), "holds a LatteTransformer3D"),
        ((t2v, out, *T2V_FIELDS), "Give --components"),
        ((t2v, out, *T2V_FIELDS, "--components", tmp_path / "full"), "tokenizer/spiece.model is m"),
        ((t2v, out, *T2V_FIELDS, "--components", pickles), "pytorch_model.bin is a pickle"),
        ((file, tmp_path / "full", *HEADS), "full is not empty"),
        ((file, tmp_path / "full", *HEADS, "--overwrite"), "holds other things than a model"),
        ((file, file, *HEADS, "--overwrite"), "model.pt is a file"),
        ((tiny_folder / "vae", tiny_folder, "--overwrite"), "which would be replaced"),
    ]
    for arguments, words in cases:
        assert words in refused(capsys, tmp_path, *arguments), words
    assert (tmp_path / "full/notes.txt").read_text() == "mine"
    check_layout(tiny_folder)


def test_an_empty_folder_is_taken_and_an_old_model_replaced(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    file = saved(tmp_path / "ffs.pt", fill(class_shapes(SIZE)))
    out = tmp_path / "out"
    out.mkdir()
    assert run(capsys, file, out, *HEADS)[0] == 0
    (out / "mark").touch()
    assert "is not empty" in refused(capsys, tmp_path, file, out, *HEADS)
    assert (out / "mark").exists()
    assert run(capsys, file, out, *HEADS, "--overwrite")[0] == 0
    assert not (out / "mark").exists()


def test_a_failure_in_the_middle_leaves_nothing(
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The transformer is written by then; a disk that fills up is the copy's error."""
    from latte_core.checkpoints import conversion

    copied: list[object] = []

    def full(source: Path, target: Path) -> None:
        copied.append(target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion.shutil, "copyfile", full)
    err = refused(capsys, tmp_path, tiny_folder, tmp_path / "out")
    assert copied
    assert "out cannot be written: [Errno 28] No space left" in err
    monkeypatch.undo()
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _: usage)
    assert "0.00 GiB free" in refused(capsys, tmp_path, tiny_folder, tmp_path / "out")
