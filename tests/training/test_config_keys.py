"""Every key of a configuration has an effect: each is flipped, and something has to change.

The list is checked against the dataclasses' fields, so a new key without a line here fails.
"""

import json
import time
from dataclasses import fields, replace

import pytest
import torch
from config_probes import (
    BASE,
    DATA_FLIPS,
    LORA,
    LORA_FLIPS,
    MODEL_FLIPS,
    OBJECTIVE_FLIPS,
    SHAPE,
    SHEET_FLIPS,
    WORLD,
    flat,
    made,
)
from tiny_clips import MadeUpClips, tiny_shape, tiny_task
from tiny_training import LineTask

from latte_core.checkpoints.files import WEIGHTS, read_header, write_json
from latte_core.components.vae import VaeConfig, new_vae, save_vae
from latte_core.errors import ConfigError
from latte_core.training import loop, networks
from latte_core.training.config import (
    DataConfig,
    LoraConfig,
    ModelChoice,
    PartsConfig,
    ResultConfig,
    SheetConfig,
    StartConfig,
    TrainingConfig,
)
from latte_core.training.loop import LoopConfig, Trainer
from latte_core.training.lora import add_lora
from latte_core.training.networks import Sources
from latte_core.training.outcome import write_model_folder, write_result
from latte_core.training.recipe import ObjectiveRecipe


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """Read no files: sets of videos are their source, shards are made up."""
    monkeypatch.setattr(networks, "open_source", lambda source: [source])
    monkeypatch.setattr(networks, "open_shards", lambda *given: MadeUpClips())


# the loop


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Run a line's training with these settings; what it left, and what it asked torch for."""

    def run(settings):
        asked = {}
        real = loop.make_accelerator

        def spy(cpu, precision, accumulate, strategy):
            asked["accelerator"] = (cpu, precision, strategy)
            return real(True, precision, accumulate, strategy)

        def compiled(model):
            asked["compiled"] = True
            return model

        def loader(*given, num_workers, prefetch_factor, **more):
            asked["workers"] = num_workers
            return torch.utils.data.DataLoader(*given, num_workers=0, **more)

        monkeypatch.setattr(loop, "make_accelerator", spy)
        monkeypatch.setattr(loop, "DataLoader", loader)
        monkeypatch.setattr(torch, "compile", compiled)
        folder = tmp_path / str(time.monotonic_ns())
        trainer = Trainer(LineTask(noise=0.1), settings, folder)
        saves, save = [], trainer.save
        trainer.save = lambda: (saves.append(trainer.progress.step), save())[1]
        average = trainer.run()
        log = (folder / "log.csv").read_text() if (folder / "log.csv").exists() else ""
        steps = [line.split(",")[0] for line in log.splitlines()]
        sheets = sorted(path.name for path in folder.glob("*.png"))
        weights = [flat(p) for m in (trainer.task.model, average) for p in m.parameters()]
        return asked, saves, steps, sheets, weights

    return run


LOOP = LoopConfig(
    steps=4,
    learning_rate=0.05,
    warmup_steps=2,
    workers=0,
    device="cpu",
    log_every=1,
    save_every=2,
    picture_every=2,
    clip_norm=0.01,
)
LOOP_FLIPS = {
    "steps": 5,
    "minutes": 1e-9,
    "learning_rate": 0.01,
    "warmup_steps": 3,
    "decay_share": 0.9,
    "weight_decay": 0.5,
    "beta2": 0.5,
    "clip_norm": 1e-9,  # below what Adam's epsilon forgives
    "clip_after": 2,
    "accumulate": 2,
    "ema_decay": 0.1,
    "ema_warmup": False,
    "precision": "bf16",
    "device": "auto",
    "compile": True,
    "seed": 1,
    "workers": 1,
    "log_every": 2,
    "save_every": 3,
    "picture_every": 3,
}


@pytest.mark.parametrize("name", LOOP_FLIPS)
def test_key_of_the_loop_has_an_effect(ran, name):
    changed = replace(LOOP, **{name: LOOP_FLIPS[name]})
    first = ran(LOOP)
    assert first == ran(LOOP)  # positive control: what is compared is a matter of the settings
    assert ran(changed) != first


def test_strategy_has_an_effect(ran):
    with pytest.raises(ConfigError, match="fsdp2"):
        ran(replace(LOOP, strategy="fsdp2"))


# what is written


@pytest.fixture
def written(tmp_path):
    """Write a model folder with these settings; what it says of itself."""

    def write(settings, name="base"):
        torch.manual_seed(0)
        task = tiny_task(tiny_shape())
        task.frozen.vae = new_vae(VaeConfig((8, 8), 1, sample_size=8, norm_num_groups=4)).eval()
        folder = tmp_path / str(time.monotonic_ns())
        config = replace(BASE, name=name, result=settings)
        write_model_folder(config, task, task.model, Sources(None, None, None), folder)
        manifest = json.loads((folder / "latte_manifest.json").read_text())
        header = read_header(folder / "transformer" / WEIGHTS)
        return manifest["defaults"], manifest["card"], header

    return write


RESULT_FLIPS = {
    "dtype": "fp32",
    "scheduler": "ddim",
    "num_inference_steps": 50,
    "guidance_scale": 2.0,
    "fps": 12,
}


@pytest.mark.parametrize("name", RESULT_FLIPS)
def test_key_of_the_result_has_an_effect(written, name):
    first = written(ResultConfig())
    assert first == written(ResultConfig())
    assert written(replace(ResultConfig(), **{name: RESULT_FLIPS[name]})) != first


# all together

TREES = {
    DataConfig: DATA_FLIPS,
    ModelChoice: MODEL_FLIPS,
    ObjectiveRecipe: OBJECTIVE_FLIPS,
    LoraConfig: LORA_FLIPS,
    SheetConfig: SHEET_FLIPS,
}
CASES = [
    (tree.__name__, name, *flip) for tree, flips in TREES.items() for name, flip in flips.items()
]


@pytest.mark.parametrize(("tree", "name", "probe", "value", "base"), CASES)
def test_key_has_an_effect(tree, name, probe, value, base):
    first = probe(base)
    assert first == probe(base)
    assert probe(replace(base, **{name: value})) != first


START_FLIPS, PARTS_FLIPS = ("path", "zero_temporal"), ("vae", "text_encoder")


def test_keys_of_the_start_have_an_effect(tmp_path):
    from latte_core.checkpoints import save_transformer

    first = made(BASE)
    assert first == made(BASE)
    # Variant 3: in variant 1, time blocks of a class model have gates, which begin at zero anyway.
    other = replace(BASE, model=ModelChoice(None, {**SHAPE, "variant": 3}))
    assert made(replace(other, start=StartConfig(zero_temporal=True))) != made(other)
    task = tiny_task(tiny_shape(), seed=1)
    save_transformer(task.model, tmp_path / "transformer", torch.float32)
    start = StartConfig(str(tmp_path))
    model = ModelChoice(None, {})
    begun = made(replace(BASE, start=start, model=model))
    assert begun[0] == [flat(p) for p in task.model.parameters()] != first[0]


def test_start_that_predicts_something_else_is_refused(tmp_path):
    (tmp_path / "scheduler").mkdir()
    write_json(tmp_path / "scheduler" / "scheduler_config.json", {"prediction_type": "sample"})
    with pytest.raises(ConfigError, match=r"objective\.prediction is 'epsilon'.*'sample'"):
        made(replace(BASE, start=StartConfig(str(tmp_path)), model=ModelChoice()))


def test_keys_of_the_parts_have_an_effect(tmp_path, monkeypatch):
    vae = new_vae(VaeConfig((8, 8), 1, sample_size=8, norm_num_groups=4))
    save_vae(vae, tmp_path / "own")
    save_vae(vae, tmp_path / "model" / "vae")
    (tmp_path / "model" / "text_encoder").mkdir()
    found = [
        networks.find_sources(replace(BASE, parts=PartsConfig(*parts)))
        for parts in (
            (None, None),
            (str(tmp_path / "own"), None),
            (str(tmp_path / "model"), str(tmp_path / "model")),
        )
    ]
    assert [s.vae for s in found] == [None, tmp_path / "own", tmp_path / "model" / "vae"]
    assert [s.text_encoder for s in found] == [None, None, tmp_path / "model" / "text_encoder"]
    monkeypatch.setattr(networks, "load_text_encoder", lambda folder: f"encoder of {folder.name}")
    data = replace(BASE, data=WORLD)
    with pytest.raises(ConfigError, match=r"parts\.vae"):
        networks.load_frozen(data, found[0])
    frozen = [networks.load_frozen(data, sources) for sources in found[1:]]
    assert all(f.vae is not None for f in frozen)
    assert [f.text_encoder for f in frozen] == [None, "encoder of model"]


def test_top_keys_have_an_effect(written, tmp_path):
    assert written(ResultConfig(), "one") != written(ResultConfig(), "two")
    task = tiny_task(tiny_shape())
    add_lora(task.model, LORA)
    config = replace(BASE, start=StartConfig("x"), model=ModelChoice(), lora=LORA)
    sources = Sources(None, None, None)
    file = write_result(config, task, task.model, sources, tmp_path / "lora")
    assert file.suffix == ".safetensors"


TOP = {
    "name": "test_top_keys_have_an_effect",
    "lora": "test_top_keys_have_an_effect",
    "data": DataConfig,
    "parts": PartsConfig,
    "model": ModelChoice,
    "start": StartConfig,
    "objective": ObjectiveRecipe,
    "loop": LoopConfig,
    "sheet": SheetConfig,
    "result": ResultConfig,
}
TESTED = {
    **{tree: set(flips) for tree, flips in TREES.items()},
    LoopConfig: {*LOOP_FLIPS, "strategy"},
    ResultConfig: set(RESULT_FLIPS),
    StartConfig: set(START_FLIPS),
    PartsConfig: set(PARTS_FLIPS),
    TrainingConfig: set(TOP),
}


@pytest.mark.parametrize("tree", TESTED, ids=lambda tree: tree.__name__)
def test_no_key_is_without_a_test(tree):
    assert {field.name for field in fields(tree)} == TESTED[tree]


def test_every_tree_of_the_configuration_is_listed():
    known = {kind for kind in TOP.values() if isinstance(kind, type)} | {LoraConfig, TrainingConfig}
    assert known == set(TESTED)
