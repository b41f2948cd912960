"""Files of weights: pickles that would run something are refused, and nothing of them is run."""

import argparse
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from latte_core import cli
from latte_core.checkpoints.weights import read_source
from latte_core.errors import CheckpointError


class Trap:
    """A pickle of this touches a file where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.mark}'",)


def zipped(trap: Trap, path: Path) -> None:
    torch.save({"ema": {"x_embedder.proj.weight": torch.ones(2), "y": trap}}, path)


def legacy(trap: Trap, path: Path) -> None:
    torch.save({"ema": {"y": trap}}, path, _use_new_zipfile_serialization=False)


def bare(trap: Trap, path: Path) -> None:
    path.write_bytes(pickle.dumps({"ema": trap}, protocol=2))


@pytest.mark.parametrize("write", [zipped, legacy, bare])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".pkl"])
def test_a_malicious_pickle_is_refused_and_not_run(
    write: object, suffix: str, tmp_path: Path
) -> None:
    mark, file = tmp_path / "mark", tmp_path / f"weights{suffix}"
    write(Trap(mark), file)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="pickle can run any code") as caught:
        read_source(file)
    assert "system" in str(caught.value)
    assert not mark.exists()


def test_the_trap_is_a_real_one(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "weights.pt"
    zipped(Trap(mark), file)
    torch.load(file, weights_only=False)
    assert mark.exists()


def test_the_command_answers_a_malicious_pickle_with_a_sentence(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    mark, file = tmp_path / "mark", tmp_path / "weights.pt"
    zipped(Trap(mark), file)
    assert cli.main(["convert", str(file), str(tmp_path / "out")]) == 2
    assert "weights.pt holds more than weights, so it was not read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_no_other_reader_of_pickles_is_used() -> None:
    """In the whole core, torch.load has weights_only=True beside it, and pickle.load is nowhere."""
    import ast

    root = Path(__file__).resolve().parents[2] / "latte_core"
    loads = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = ast.unparse(node.func)
                assert name not in ("pickle.load", "pickle.loads", "pickle.Unpickler"), path
                if name == "torch.load":
                    loads.append(path.name)
                    given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                    assert given.get("weights_only") == "True", path
    assert "weights.py" in loads


@pytest.mark.parametrize("zip_format", [True, False])
def test_training_files_with_options_are_read(tmp_path: Path, zip_format: bool) -> None:
    """Scripts keep their arguments and counters beside the weights; those are plain values."""
    state = OrderedDict(weight=torch.arange(6.0).reshape(2, 3))
    file = tmp_path / "0100000.pt"
    data = {"ema": state, "args": argparse.Namespace(lr=1e-4, name="x"), "step": 3}
    torch.save(data, file, _use_new_zipfile_serialization=zip_format)
    read = read_source(file)
    assert torch.equal(read.state["ema"]["weight"], state["weight"])
    assert read.state["step"] == 3
    assert read.pipeline is None


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\x00" * 50, b"\x80\x02."])
def test_what_is_no_file_of_torch_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pt (cannot be read|holds more)"):
        read_source(file)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"a": torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="cannot be read as a file of torch"):
        read_source(file)


def test_a_file_that_holds_no_names_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="holds a list, not named weights"):
        read_source(tmp_path / "weights.pt")


def resident_kib() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's own count")
def test_weights_are_mapped_not_read(tmp_path: Path) -> None:
    """Reading a file costs no memory of its own at first; copying it does, as a control."""
    torch.save({"a": torch.zeros(32, 2**20)}, tmp_path / "weights.pt")  # 128 MiB
    before = resident_kib()
    read = read_source(tmp_path / "weights.pt")
    assert resident_kib() - before < 32 * 1024
    copy = read.state["a"].clone()
    assert resident_kib() - before > 100 * 1024
    assert copy.shape == (32, 2**20)


def test_a_folder_of_another_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.safetensors").touch()
    config = '{"_class_name": "DiTTransformer2DModel", "norm_type": "ada_norm_zero"}'
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=r"DiTTransformer2DModel.*original \.pt"):
        read_source(tmp_path)
