"""`convert`: original files become model folders that load and compute what the files computed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from convert_command import HEADS, SIZE, T2V_FIELDS, refused, run, saved, small_vae, t2v_file
from diffusers import AutoencoderKL
from original_files import (
    XL,
    Size,
    class_shapes,
    dit_shapes,
    fill,
    pixart_shapes,
)
from safetensors.torch import load_file, save_file
from tiny_models import same_weights
from torch import Tensor

from latte_core import Engine, GenerationRequest
from latte_core.checkpoints import (
    check_layout,
    from_state_dict,
    initialise,
    load_transformer,
    read_manifest,
    verify_folder,
)

AT = torch.tensor([10, 500])
LABELS = torch.tensor([1, 3])


def golden(label_rows: int) -> dict[str, Tensor]:
    """The weights on which the original classes were run: key j is 0.05 sin(0.37 i + j)."""
    shapes = class_shapes(SIZE, label_rows)
    tables = ("pos_embed", "temp_embed")
    state = {name: torch.zeros(shapes[name]) for name in tables}
    for j, name in enumerate(sorted(shapes.keys() - set(tables))):
        i = torch.arange(torch.Size(shapes[name]).numel(), dtype=torch.float64)
        state[name] = (0.05 * torch.sin(0.37 * i + j)).float().reshape(shapes[name])
    return state


def forms(state: dict[str, Tensor]) -> dict[str, object]:
    """The ways in which class files lie about."""
    early = {n.replace("temp_embed", "time_embed"): t for n, t in state.items()}
    return {
        "plain": state,
        "ema preferred": {"model": {n: t + 1 for n, t in state.items()}, "ema": state},
        "model alone": {"model": state, "opt": {"step": 3}, "epoch": 7},
        "compiled": {"ema": {f"_orig_mod.{n}": t for n, t in state.items()}},
        "parallel": {"model": {f"module.{n}": t for n, t in state.items()}},
        "early": early,
    }


@pytest.mark.parametrize("form", forms({}))
def test_class_files_compute_the_original_numbers(
    capsys: pytest.CaptureFixture, tmp_path: Path, form: str
) -> None:
    """The sums are of the original class on these weights: the file's whole way is in them."""
    file = saved(tmp_path / "model.pt", forms(golden(6))[form])
    code, out, err = run(capsys, file, tmp_path / "out", *HEADS)
    assert (code, err) == (0, "")
    model = load_transformer(tmp_path / "out/transformer")
    i = torch.arange(2 * 4 * 4 * 8 * 8, dtype=torch.float64)
    latents = torch.cos(0.11 * i).float().reshape(2, 4, 4, 8, 8).transpose(1, 2)
    with torch.no_grad():
        output = model(latents, AT, class_labels=LABELS)
    assert output.double().abs().sum().item() == pytest.approx(1390.642198, rel=1e-5)
    assert "pos_embed: a position table, computed here" in out
    assert "temp_embed: a position table" in out
    if form == "model alone":
        assert "opt: beside model" in out
    if form == "ema preferred":
        assert "model: beside ema" in out


def test_an_unconditional_file_computes_the_original_numbers(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """Also a joint model's: LatteIMG has the same names and shapes, with `ema` alone."""
    file = saved(tmp_path / "ffs.pt", {"ema": golden(0)})
    assert run(capsys, file, tmp_path / "out", *HEADS)[0] == 0
    model = load_transformer(tmp_path / "out/transformer")
    i = torch.arange(2 * 7 * 4 * 8 * 8, dtype=torch.float64)
    latents = torch.cos(0.11 * i).float().reshape(2, 7, 4, 8, 8).transpose(1, 2)
    with torch.no_grad():
        joint = model(latents, AT, num_images=3)
    assert joint.double().abs().sum().item() == pytest.approx(2628.388605, rel=1e-5)
    assert read_manifest(tmp_path / "out").card["kind"] == "ffs"


def test_a_class_folder_is_whole(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    vae = small_vae(tmp_path / "sd-vae-ft-ema")
    file = saved(tmp_path / "ucf101.pt", fill(class_shapes(SIZE, 102)))
    code, out, _ = run(capsys, file, tmp_path / "new/out", *HEADS, "--vae", vae)
    folder = tmp_path / "new/out"
    assert code == 0
    check_layout(folder)
    manifest = read_manifest(folder)
    verify_folder(folder, manifest)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "LatteClassPipeline"
    assert index["transformer"] == ["latte_core", "Latte"]
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    assert index["scheduler"] == ["diffusers", "DDPMScheduler"]
    d = manifest.defaults
    assert (d.num_inference_steps, d.guidance_scale, d.scheduler) == (250, 7.0, "ddpm")
    assert (d.num_frames, d.height, d.width, d.fps) == (4, 64, 64, 8)
    classes = manifest.card["classes"]
    assert (len(classes), classes[0], classes[-1]) == (101, "ApplyEyeMakeup", "YoYo")
    assert AutoencoderKL.from_pretrained(folder / "vae").config.latent_channels == 4
    assert "101 classes" in out
    assert f"vae from {vae}" in out
    with Engine.load(str(folder)) as engine:
        assert engine.describe().classes[100] == "YoYo"
        request = GenerationRequest(class_label=100, seed=1, num_inference_steps=2)
        assert engine.generate(request).frames.shape == (4, 64, 64, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "sd-vae-ft-ema", "ucf101.pt"]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def test_another_size_rebuilds_the_tables(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A file of 256 pixels serves 512: the original fails on its table."""
    state = fill(class_shapes(SIZE))
    file = saved(tmp_path / "ffs.pt", state)
    fields = ("--set", "sample_size=16", "--set", "num_frames=6", "--set", "num_heads=4")
    assert run(capsys, file, tmp_path / "out", *fields)[0] == 0
    model = load_transformer(tmp_path / "out/transformer")
    wanted = from_state_dict(state, num_heads=4, sample_size=16, num_frames=6)
    clip = torch.randn(1, 4, 6, 16, 16)
    with torch.no_grad():
        mine, theirs = model(clip, AT[:1]), wanted(clip, AT[:1])
    assert same_weights(model, wanted)
    assert (mine - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert read_manifest(tmp_path / "out").defaults.height == 128


@pytest.fixture(scope="module")
def tiny_frames(tiny_folder: Path) -> np.ndarray:
    return clip_of(tiny_folder)


def clip_of(folder: Path) -> np.ndarray:
    with Engine.load(str(folder)) as engine:
        request = GenerationRequest(prompt="a red cow", seed=3, num_inference_steps=2)
        return engine.generate(request).frames


@pytest.mark.parametrize("y_embedding", [True, False])
def test_t2v_file_makes_the_same_clip(
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    tiny_folder: Path,
    tiny_frames: np.ndarray,
    y_embedding: bool,
) -> None:
    file = t2v_file(tiny_folder, tmp_path / "t2v.pt", y_embedding)
    arguments = (file, tmp_path / "out", *T2V_FIELDS, "--components", tiny_folder)
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert ("y_embedding: the empty caption of training" in out) is y_embedding
    check_layout(tmp_path / "out")
    assert np.array_equal(clip_of(tmp_path / "out"), tiny_frames)
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.card["kind"], manifest.defaults.num_inference_steps) == ("t2v", 50)


@pytest.mark.parametrize(
    "place", ["", "transformer", "transformer/diffusion_pytorch_model.safetensors"]
)
def test_a_diffusers_folder_is_read_where_it_lies(
    capsys: pytest.CaptureFixture, tmp_path: Path, tiny_folder: Path, place: str
) -> None:
    """The whole folder, its transformer, or the transformer's file; nothing has to be given."""
    code, out, _ = run(capsys, tiny_folder / place, tmp_path / "out")
    assert code == 0
    for part in ("tokenizer", "text_encoder", "vae", "scheduler"):
        assert f"{part} from {tiny_folder / part}" in out
    ours = load_file(tmp_path / "out/transformer/diffusion_pytorch_model.safetensors")
    theirs = load_file(tiny_folder / "transformer/diffusion_pytorch_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    verify_folder(tmp_path / "out", read_manifest(tmp_path / "out"))


def test_converting_again_keeps_settings_and_adds_what_is_given(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """A class folder gets its autoencoder afterwards, in its own place."""
    file = saved(tmp_path / "ucf101.pt", fill(class_shapes(SIZE, 102)))
    out = tmp_path / "out"
    assert "no autoencoder yet" in run(capsys, file, out, *HEADS)[1]
    before = load_transformer(out / "transformer").state_dict()
    vae = small_vae(tmp_path / "pipeline/vae").parent
    code, _, err = run(capsys, out, out, "--vae", vae, "--overwrite", "--dtype", "float16")
    assert (code, err) == (0, "")
    check_layout(out)
    verify_folder(out, read_manifest(out))
    assert read_manifest(out).card["classes"][14] == "BodyWeightSquats"
    assert read_manifest(out).card["source"] == "ucf101.pt"
    after = load_transformer(out / "transformer").state_dict()
    assert all(torch.equal(after[name], before[name].half()) for name in before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "pipeline", "ucf101.pt"]


@pytest.mark.parametrize("kind", ["DiT.pt", "PixArt.pth"])
def test_image_models_become_folders(
    capsys: pytest.CaptureFixture, tmp_path: Path, tiny_folder: Path, kind: str
) -> None:
    shapes = dit_shapes(SIZE, 6) if kind == "DiT.pt" else pixart_shapes(Size(captions=32))
    state = fill(shapes)
    file = saved(tmp_path / kind, {"state_dict": state, "epoch": 3})
    fields = (*HEADS, "--set", "num_frames=4", "--components", tiny_folder)
    code, out, err = run(capsys, file, tmp_path / "out", *fields)
    assert (code, err) == (0, "")
    assert "blocks.*.attn.time.qkv.weight (4)" in out
    assert "every frame starts as the image model's picture" in out
    check_layout(tmp_path / "out")
    model = load_transformer(tmp_path / "out/transformer")
    wanted = initialise(state, num_heads=4, num_frames=4)
    told = {"class_labels": LABELS} if kind == "DiT.pt" else {"prompt_embeds": torch.ones(2, 3, 32)}
    clip = torch.randn(2, 4, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(clip, AT, **told), wanted(clip, AT, **told))


def test_safetensors_of_a_class_model_alone(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    state = fill(class_shapes(SIZE, 6))
    save_file(state, tmp_path / "model.safetensors")
    assert run(capsys, tmp_path / "model.safetensors", tmp_path / "out", *HEADS)[0] == 0
    wanted = from_state_dict(state, num_heads=4).state_dict()
    found = load_transformer(tmp_path / "out/transformer").state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert read_manifest(tmp_path / "out").card["classes"] == ["0", "1", "2", "3", "4"]
    shard = tmp_path / "model-00001-of-00002.safetensors"
    (tmp_path / "model.safetensors").rename(shard)
    assert "one of several files" in refused(capsys, tmp_path, shard, tmp_path / "b", *HEADS)


def test_learned_tables_are_told(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A table other than the formula's is not loaded, and that is said; the usual one is quiet."""
    state = fill(class_shapes(SIZE, 6))
    usual = from_state_dict(state, num_heads=4).positions
    file = saved(tmp_path / "a.pt", state)
    assert (
        "pos_embed in the file is not the usual table"
        in run(capsys, file, tmp_path / "a", *HEADS)[1]
    )
    state |= {"pos_embed": usual.space[0], "temp_embed": usual.time[:, :, 0]}
    file = saved(tmp_path / "b.pt", state)
    assert "usual table" not in run(capsys, file, tmp_path / "b", *HEADS)[1]


MEASURED = """
import re, sys
from pathlib import Path
from latte_core import cli
from latte_core.checkpoints import conversion

def peak():  # of this program alone, unlike getrusage's, which begins with its parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

base = peak()
code = cli.main(["convert", *sys.argv[1:]])
print("PEAK", peak() - base)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's own count")
def test_a_file_of_full_size_needs_two_copies_of_memory(tmp_path: Path) -> None:
    """674 M weights in half precision: 1.35 GB of file, mapped pages counted as memory too."""
    shapes = class_shapes(XL, 102)
    state = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    file, out = saved(tmp_path / "ucf101.pt", {"ema": state}), tmp_path / "out"
    size_kib = file.stat().st_size / 1024
    try:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(file), str(out)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert done.returncode == 0, done.stderr
        peak_kib = int(done.stdout.split("PEAK")[1])
        assert peak_kib < 2.3 * size_kib, f"{peak_kib / size_kib:.2f} copies"
        assert "673,799,072 parameters" in done.stdout
        assert read_manifest(out).defaults.guidance_scale == 7.0
    finally:
        file.unlink()
        shutil.rmtree(out, ignore_errors=True)
