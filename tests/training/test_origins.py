"""Training that starts from files others made: the original's .pt, DiT, PixArt-alpha, Latte-1."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from config_probes import BASE
from tiny_clips import MadeUpClips

from latte_core.diffusion.loss import DiffusionLoss
from latte_core.training.config import LoraConfig, ModelChoice, SheetConfig, StartConfig
from latte_core.training.diffusion import DiffusionTask, Frozen
from latte_core.training.lora import add_lora
from latte_core.training.networks import find_sources, make_batches, make_latte

CLIPS = MadeUpClips(side=8)
FILES = {
    "class": ("class_shapes", {"label_rows": 4}, "x_embedder.proj.weight"),
    "unconditional": ("class_shapes", {}, "x_embedder.proj.weight"),
    "t2v": ("t2v_shapes", {}, "pos_embed.proj.weight"),
    "dit": ("dit_shapes", {"label_rows": 4}, "x_embedder.proj.weight"),
    "pixart": ("pixart_shapes", {}, "x_embedder.proj.weight"),
}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small file under the published names, as a training script saved it; and its weights."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "checkpoints"))
    import original_files

    def write(kind):
        shapes, given, _ = FILES[kind]
        state = original_files.fill(getattr(original_files, shapes)(original_files.Size(), **given))
        torch.save({"model": {}, "ema": state} if kind == "class" else state, tmp_path / "w.pt")
        return tmp_path / "w.pt", state

    return write


def make_task(path, images=0, lora=None):
    data = replace(BASE.data, images=images)
    objective = replace(BASE.objective, length=8)
    model = ModelChoice(None, {"num_heads": 4, "sample_size": 8})
    config = replace(
        BASE, data=data, objective=objective, start=StartConfig(str(path)), model=model
    )
    latte = make_latte(config, find_sources(config), CLIPS, Frozen())
    shape = latte.config
    if lora is not None:
        add_lora(latte, lora)
    batches = make_batches(config, shape, CLIPS, Frozen())
    loss = DiffusionLoss("epsilon", shape.learned_variance)
    return DiffusionTask(latte, shape, batches, Frozen(), loss, objective, SheetConfig())


@pytest.mark.parametrize("images", [0, 1])
@pytest.mark.parametrize("kind", FILES)
def test_training_goes_on_from_a_published_file(published, kind, images):
    path, state = published(kind)
    task = make_task(path, images)
    patch = state[FILES[kind][2]].flatten(1)
    assert torch.equal(task.model.patch.proj.weight, patch)
    assert task.config.num_frames == 4
    assert task.config.num_classes == (3 if kind in ("class", "dit") else 0)
    batch = task.batches[0]
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    errors = []
    for _ in range(6):
        loss, figures = task.loss(task.model, batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < errors[0]
    assert not torch.equal(task.model.patch.proj.weight, patch)
    assert set(figures) == {"mse", "vb"}


def test_lora_on_the_original_text_model_learns(published):
    task = make_task(published("t2v")[0], lora=LoraConfig(rank=2))
    task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))[0].backward()
    learnt = {n for n, p in task.model.named_parameters() if p.grad is not None}
    assert learnt
    assert all("lora_" in name for name in learnt)
