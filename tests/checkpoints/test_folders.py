"""Whole folders: damage of every kind is found and named, and sound ones pass."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from latte_core.checkpoints import (
    Defaults,
    PreviewMap,
    build_manifest,
    check_layout,
    load_transformer,
    model_hash,
    read_manifest,
    resolve_model,
    verify_folder,
    write_manifest,
)
from latte_core.checkpoints.files import read_header
from latte_core.errors import CheckpointError

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
DEFAULTS = Defaults(20, 7.5, 8, 64, 64, 8, "ddim")
PREVIEW = PreviewMap(((0.1, 0.2, 0.3),) * 4, (0.5, 0.5, 0.5))
CARD = {"name": "tiny", "vocabulary": ["rocket", "sea"]}


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy with a manifest, to be damaged."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_folder, copy)
    write_manifest(copy, build_manifest(copy, DEFAULTS, PREVIEW, CARD))
    return copy


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def verify(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    verify_folder(folder, manifest)


def test_a_sound_folder_passes(folder: Path) -> None:
    check_layout(folder)
    verify(folder)
    manifest = read_manifest(folder)
    assert manifest == build_manifest(folder, DEFAULTS, PREVIEW, CARD)
    assert manifest.defaults == DEFAULTS
    assert manifest.preview == PREVIEW
    assert "model_index.json" in manifest.files


def test_manifest_hashes_are_those_of_the_system(folder: Path) -> None:
    listed = json.loads((folder / "latte_manifest.json").read_text())["files"][WEIGHTS]
    output = subprocess.run(["sha256sum", folder / WEIGHTS], capture_output=True, text=True)
    assert output.stdout.split()[0] == listed["sha256"]


def test_headers_are_what_safetensors_reads(folder: Path) -> None:
    header, state = read_header(folder / WEIGHTS), load_file(folder / WEIGHTS)
    assert {name: tuple(entry["shape"]) for name, entry in header.items()} == {
        name: tuple(tensor.shape) for name, tensor in state.items()
    }
    assert {entry["dtype"] for entry in header.values()} == {"F32"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cast(state: dict) -> None:
    state["proj_out.weight"] = state["proj_out.weight"].half()


DAMAGE = [
    (lambda p: cut(p), "bytes instead of"),
    (lambda p: p.write_bytes(b""), "0 bytes instead of"),
    (lambda p: p.unlink(), "is missing"),
    (lambda p: flip(p, 0), "header"),
    (lambda p: flip(p, 40), "damaged|hash|lacks|instead"),
    (lambda p: flip(p, -5), "its hash is another"),
    (lambda p: rewrite(p, lambda s: s.pop("proj_out.bias")), "bytes instead of"),
    (lambda p: rewrite(p, cast), "bytes instead of"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damaged_files_are_named(folder: Path, damage: Callable, message: str) -> None:
    damage(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=message) as caught:
        verify(folder)
    assert "diffusion_pytorch_model.safetensors" in str(caught.value)


def hide_from_sizes(folder: Path) -> None:
    """List the damaged file's own size, so that the tensors have to tell."""
    path = folder / "latte_manifest.json"
    data = json.loads(path.read_text())
    data["files"][WEIGHTS]["size"] = (folder / WEIGHTS).stat().st_size
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("proj_out.bias"), "lacks the tensor proj_out.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "holds an unlisted tensor extra"),
        (lambda s: s.update({"proj_out.bias": torch.zeros(4, 8)}), "shape of proj_out.bias"),
        (cast, "dtype of proj_out.weight is F16 instead of F32"),
    ],
)
def test_tensors_other_than_listed_are_named(folder: Path, change: Callable, message: str) -> None:
    rewrite(folder / WEIGHTS, change)
    hide_from_sizes(folder)
    with pytest.raises(CheckpointError, match=message):
        verify(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("proj_out.bias"), r"lack proj_out\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "no place for, such as extra"),
        (
            lambda s: s.update({"proj_out.bias": torch.zeros(4, 8)}),
            r"proj_out\.bias has shape \(4, 8\)",
        ),
        (lambda s: s["proj_out.bias"].fill_(torch.nan), r"proj_out\.bias holds NaN"),
        (lambda s: s["proj_out.bias"].fill_(torch.inf), r"proj_out\.bias holds NaN or infinity"),
    ],
)
def test_loading_refuses_what_is_no_whole_model(
    folder: Path, change: Callable, message: str
) -> None:
    rewrite(folder / WEIGHTS, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_transformer(folder / "transformer")
    assert str(folder / "transformer") in str(caught.value)


@pytest.mark.parametrize("damage", [cut, lambda p: flip(p, 0), lambda p: p.write_bytes(b"{}")])
def test_loading_refuses_damaged_files_without_a_manifest(folder: Path, damage: Callable) -> None:
    damage(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_transformer(folder / "transformer")


def test_every_bit_of_a_header_counts(folder: Path) -> None:
    """No flipped header bit goes unnoticed, and none escapes as another kind of error."""
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for offset in range(0, length, max(1, length // 50)):
        flip(path, offset)
        with pytest.raises(CheckpointError):
            verify(folder)
        path.write_bytes(whole)
    verify(folder)


def test_pickles_are_never_read(folder: Path) -> None:
    trap = folder / "transformer/diffusion_pytorch_model.bin"
    torch.save(load_file(folder / WEIGHTS), trap)
    with pytest.raises(
        CheckpointError, match=r"diffusion_pytorch_model\.bin is not in the manifest"
    ):
        verify(folder)
    (folder / WEIGHTS).unlink()
    for check in (lambda: check_layout(folder), lambda: load_transformer(folder / "transformer")):
        with pytest.raises(CheckpointError, match=r"\.bin is a pickle, which is never read"):
            check()


def test_an_unlisted_index_cannot_redirect_the_loader(folder: Path) -> None:
    index = folder / (WEIGHTS + ".index.json")
    index.write_text(json.dumps({"weight_map": {"a": "other.safetensors"}}))
    with pytest.raises(CheckpointError, match="is not in the manifest"):
        verify(folder)
    index.write_text(
        json.dumps({"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}})
    )
    with pytest.raises(CheckpointError, match="no safetensors of its folder"):
        load_transformer(folder / "transformer")


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("model_index.json", "model_index.json is missing"),
        ("scheduler/scheduler_config.json", "scheduler_config.json is missing"),
        ("vae/config.json", "vae/config.json is missing"),
        ("text_encoder/model.safetensors", "text_encoder/model.safetensors is missing"),
    ],
)
def test_missing_component_files_are_named(folder: Path, gone: str, message: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(CheckpointError, match=message):
        check_layout(folder)


def test_missing_tokenizer_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(CheckpointError, match=r"tokenizer/spiece.model is missing"):
        check_layout(folder)


def test_a_lost_shard_is_named(folder: Path) -> None:
    load_transformer(folder / "transformer")
    index = {"weight_map": {"a": "one.safetensors"}}
    (folder / (WEIGHTS + ".index.json")).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"one\.safetensors is missing"):
        check_layout(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer": ["diffusers", "UNet2DConditionModel"]}, "transformer of .* is a UNet2D"),
        ({"vae": [None, None]}, "vae of .* is a None|names no vae"),
        ({"transformer": None}, "names no transformer; it describes a LattePipeline"),
    ],
)
def test_other_pipelines_are_refused(folder: Path, change: dict, message: str) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        check_layout(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"files": {"../../etc/passwd": {"size": 1, "sha256": "0" * 64}}},
        {"files": {"/etc/passwd": {"size": 1, "sha256": "0" * 64}}},
        {"files": {"vae/config.json": {"size": "1", "sha256": "0" * 64}}},
        {"tensors": {"a": {"b": {"shape": [1]}}}},
        {"tensors": [1]},
        {"defaults": {"fps": 8}},
        {"defaults": DEFAULTS.__dict__ | {"fps": "8"}},
        {"defaults": DEFAULTS.__dict__ | {"num_frames": True}},
        {"preview": {"weight": [[1, 2]], "bias": [0, 0, 0]}},
        {"card": 3},
    ],
)
def test_damaged_manifests_are_refused(folder: Path, change: dict) -> None:
    path = folder / "latte_manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"latte_manifest\.json is"):
        read_manifest(folder)


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    for text in ("", "{", "[1]", "\x00"):
        (folder / "latte_manifest.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"latte_manifest\.json"):
            read_manifest(folder)


def test_model_hash_names_the_weights(folder: Path) -> None:
    before = model_hash(folder)
    assert len(before) == 12
    assert model_hash(folder) == before
    write_manifest(folder, build_manifest(folder, DEFAULTS, PREVIEW, {"name": "another card"}))
    assert model_hash(folder) == before
    flip(folder / WEIGHTS, -5)
    write_manifest(folder, build_manifest(folder, DEFAULTS, PREVIEW, CARD))
    assert model_hash(folder) != before
    (folder / "latte_manifest.json").unlink()
    plain = model_hash(folder)
    rewrite(folder / WEIGHTS, cast)
    assert model_hash(folder) != plain


def test_names_that_are_neither_folder_nor_hub_id_are_refused(tmp_path: Path) -> None:
    assert resolve_model(str(tmp_path)) == tmp_path
    file = tmp_path / "file"
    file.touch()
    for name in (str(tmp_path / "nothing"), "nothing", "a/b/c", "../models", "", str(file)):
        with pytest.raises(CheckpointError, match=r"does not exist|is a file"):
            resolve_model(name)


def test_hub_ids_are_looked_up_and_errors_name_both_places(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no folder 'someone/model'.* hub either"):
        resolve_model("someone/model")
    repository = tmp_path / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("1" * 40)
    shutil.copytree(tiny_folder, repository / "snapshots" / ("1" * 40))
    found = resolve_model("someone/model")
    check_layout(found)
    assert load_transformer(found / "transformer").num_parameters > 0


def test_settings_come_without_torch() -> None:
    code = "import sys; from latte_core.checkpoints import Defaults, read_manifest, verify_folder; "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
