"""LoRA: what is trained here is what stock diffusers and our own loader make of the file."""

import json

import pytest
import torch
from diffusers import LatteTransformer3DModel
from diffusers.loaders import PeftAdapterMixin
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_clips import WIDTH, stir, tiny_shape, tiny_task

from latte_core.checkpoints import save_transformer
from latte_core.checkpoints.lora import FILE, merge_lora, save_lora
from latte_core.checkpoints.transformer import load_transformer
from latte_core.errors import CheckpointError, ConfigError
from latte_core.training.config import LoraConfig
from latte_core.training.loop import LoopConfig, Trainer
from latte_core.training.lora import add_lora, lora_of

EVERYTHING = ("space", "time", "prompt", "mlp")
LOOP = {"device": "cpu", "workers": 0, "log_every": 1, "picture_every": 100, "warmup_steps": 1}


class StockLatte(LatteTransformer3DModel, PeftAdapterMixin):
    """Diffusers' own network with diffusers' own loader of adapters, which it does not mix in."""


def trained(tmp_path, settings, shape=None, steps=4, **loop):
    """A base folder, the trained task, and the folder of its LoRA."""
    task = tiny_task(shape or tiny_shape("text", depth=4, images="length_one"))
    stir(task.model)
    save_transformer(task.model, tmp_path / "base", torch.float32)
    add_lora(task.model, settings)
    torch.manual_seed(3)
    plan = LoopConfig(steps=steps, learning_rate=3e-2, ema_decay=0.5, **LOOP, **loop)
    trainer = Trainer(task, plan, tmp_path / "run")
    average = trainer.run().eval()
    save_lora(lora_of(average, settings.alpha), task.config, tmp_path / "lora")
    return tmp_path / "base", average, tmp_path / "lora"


def inputs(conditioning="text"):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 4, 4, 4, generator=generator)
    told = {"prompt_embeds": torch.randn(2, 7, WIDTH, generator=generator)}
    if conditioning == "class":
        told = {"class_labels": torch.tensor([0, 3])}
    return latents, torch.tensor([700, 30]), told


@pytest.mark.parametrize("targets", [EVERYTHING, ("time",)])
@torch.no_grad()
def test_stock_diffusers_loads_the_file_and_computes_the_same(tmp_path, targets):
    settings = LoraConfig(rank=3, alpha=5.0, targets=targets)
    with torch.enable_grad():
        base, average, lora = trained(tmp_path, settings)
    stock = StockLatte.from_pretrained(base).eval()
    latents, steps, told = inputs()

    def theirs():
        return stock(latents, steps, encoder_hidden_states=told["prompt_embeds"]).sample

    before = theirs()
    stock.load_lora_adapter(lora, prefix="transformer", weight_name=FILE)
    mine, after = average(latents, steps, **told), theirs()
    scale = float(after.abs().max())
    assert float((mine - after).abs().max()) < 1e-5 * scale
    assert float((before - after).abs().max()) > 1e-2 * scale  # the adapter does something


@pytest.mark.parametrize("conditioning", ["text", "class"])
@torch.no_grad()
def test_merged_file_computes_the_same(tmp_path, conditioning):
    settings = LoraConfig(rank=2, alpha=3.0, targets=("space", "time", "mlp"))
    shape = tiny_shape(conditioning, depth=4)
    with torch.enable_grad():
        base, average, lora = trained(tmp_path, settings, shape)
    latents, steps, told = inputs(conditioning)
    plain, merged, half = (load_transformer(base) for _ in range(3))
    assert merge_lora(merged, lora) == 4 * 4  # blocks x layers
    merge_lora(half, lora / FILE, scale=0.5)
    outputs = [m(latents, steps, **told) for m in (plain, half, merged, average)]
    torch.testing.assert_close(outputs[2], outputs[3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-2)
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-3)


@torch.no_grad()
def test_adapter_made_by_diffusers_merges_into_our_model(tmp_path):
    """There, queries, keys and values each have an A of their own; here they are one layer."""
    from peft import LoraConfig as PeftConfig

    model = tiny_task(tiny_shape("text", depth=4, images="length_one")).model.eval()
    stir(model)
    save_transformer(model, tmp_path / "base", torch.float32)
    stock = StockLatte.from_pretrained(tmp_path / "base").eval()
    layers = ["to_q", "to_v", "to_out.0", "net.2"]
    stock.add_adapter(PeftConfig(r=3, lora_alpha=6, target_modules=layers))
    for n, (name, value) in enumerate(stock.named_parameters()):
        if "lora_" in name:
            value.copy_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(n)))
    stock.save_lora_adapter(tmp_path / "lora")
    latents, steps, told = inputs()
    before = model(latents, steps, **told)
    assert merge_lora(model, tmp_path / "lora") > 0
    theirs = stock(latents, steps, encoder_hidden_states=told["prompt_embeds"]).sample
    mine = model(latents, steps, **told)
    assert float((mine - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())
    assert float((before - theirs).abs().max()) > 1e-2 * float(theirs.abs().max())


def test_only_the_additions_learn_and_begin_at_nothing(tmp_path):
    task = tiny_task(tiny_shape("text"))
    stir(task.model)
    before = {n: p.clone() for n, p in task.model.named_parameters()}
    latents, steps, told = inputs()
    first = task.model(latents, steps, **told)
    add_lora(task.model, LoraConfig(rank=2, targets=EVERYTHING))
    assert torch.equal(task.model(latents, steps, **told), first)
    average = Trainer(task, LoopConfig(steps=2, **LOOP), tmp_path).run()
    for model in (task.model, average):
        now = {n.replace("base_layer.", ""): p for n, p in model.named_parameters()}
        assert all(torch.equal(now[name], value) for name, value in before.items())
        learnt = {n for n, p in now.items() if p.requires_grad}
        assert learnt == {n for n in now if "lora_" in n}
    pairs = zip(average.parameters(), task.model.parameters(), strict=True)
    shared = [a.data_ptr() == b.data_ptr() for a, b in pairs]
    frozen = [not p.requires_grad for p in task.model.parameters()]
    assert shared == frozen  # no second copy of what does not learn


def test_adapter_with_dropout_goes_on_bit_equal(tmp_path):
    settings = LoraConfig(rank=2, dropout=0.5)

    def run(name, *lengths):
        for steps in lengths:
            task = tiny_task(tiny_shape("text"))
            stir(task.model)
            add_lora(task.model, settings)
            torch.manual_seed(11)
            plan = LoopConfig(steps=steps, decay_share=0.0, save_every=2, **LOOP)
            trainer = Trainer(task, plan, tmp_path / name)
            trainer.resume()
            trainer.run()
        return lora_of(task.model, 1.0)

    whole, cut = run("whole", 4), run("cut", 2, 4)
    assert all(torch.equal(whole.up[n], cut.up[n]) for n in whole.up)
    assert any(bool(value.any()) for value in whole.up.values())


def test_file_says_rank_alpha_and_layers(tmp_path):
    task = tiny_task(tiny_shape("text"))
    add_lora(task.model, LoraConfig(rank=4, alpha=2.0, targets=("prompt",)))
    file = save_lora(lora_of(task.model, 2.0), task.config, tmp_path)
    assert file.name == "pytorch_lora_weights.safetensors"
    with safe_open(file, "pt") as opened:
        told = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert (told["transformer.r"], told["transformer.lora_alpha"]) == (4, 2.0)
    assert told["transformer.target_modules"] == [
        f"transformer_blocks.0.attn2.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")
    ]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("other", "made for another model"),
        ("lost", "do not fit each other"),
        ("surplus", "such as elsewhere"),
        ("nan", "NaN"),
        ("foreign", "holds no LoRA"),
        ("none", "There is no LoRA file"),
    ],
)
def test_wrong_file_is_refused(tmp_path, spoil, told):
    task = tiny_task(tiny_shape("text"))
    add_lora(task.model, LoraConfig(rank=2, targets=("space",)))
    file = save_lora(lora_of(task.model, 2.0), task.config, tmp_path)
    state = load_file(file)
    first = min(state)
    if spoil == "lost":
        del state[first]
    elif spoil == "surplus":
        state["transformer.elsewhere.lora_A.weight"] = torch.zeros(2, 2)
    elif spoil == "nan":
        state[first][0] = float("nan")
    elif spoil == "foreign":
        state = {"some.weight": torch.zeros(2)}
    save_file(state, file)
    if spoil == "none":
        file.unlink()
    wide = tiny_task(tiny_shape("text", hidden_size=48 if spoil == "other" else 24)).model
    with pytest.raises(CheckpointError, match=told):
        merge_lora(wide, file)


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="targets"):
        add_lora(tiny_task(tiny_shape("class")).model, LoraConfig(targets=("prompt",)))
