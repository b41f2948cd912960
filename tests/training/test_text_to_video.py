"""Latte and its text encoder as one task: batches, layout of captions, loss, exact resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core.components.vae import new_vae
from latte_core.data.latents import LatentClips
from latte_core.diffusion.loss import DiffusionLoss
from latte_core.errors import DataError
from latte_core.model import Latte
from latte_core.training.loop import LoopConfig, Trainer
from latte_core.training.recipe import parse_recipe
from latte_core.training.stages import make_text_encoder
from latte_core.training.text_to_video import (
    ClipBatches,
    TextToVideo,
    TextToVideoTask,
    sample_clips,
)

RECIPE = parse_recipe(tiny_recipe_data())


@pytest.fixture(scope="module")
def source():
    """Eight clips of made-up latents, each of one value per frame: clip + frame / 16."""
    specs = tuple(RECIPE.world.draw(np.random.default_rng((1, i))) for i in range(8))
    values = torch.arange(8)[:, None] + torch.arange(16) / 16
    covers = (values[..., None, None] * 16).expand(8, 16, 4, 4).to(torch.uint8)
    return LatentClips(values[:, None, :, None, None].expand(8, 5, 16, 4, 4).half(), specs, covers)


def make_task(source, clips=2, images=2, seed=0, drop=0.1):
    torch.manual_seed(seed)
    encoder = make_text_encoder(RECIPE)
    model = TextToVideo(Latte(RECIPE.transformer), encoder.model)
    batches = ClipBatches(source, encoder, clips, images, 16, drop)
    return TextToVideoTask(
        model,
        batches,
        encoder,
        new_vae(RECIPE.autoencoder.shape),
        DiffusionLoss("v_prediction"),
        "middle",
        prompts=RECIPE.prompts,
    )


def stir(model):
    """Give every weight a push: untrained, the network answers 0."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))


def test_clips_come_with_stills_behind_them(source):
    batch = make_task(source, 3, 2, drop=0.0).batches[5]
    assert batch["latents"].shape == (3, 5, 18, 4, 4)
    assert batch["latents"].dtype == torch.float32
    assert all(batch[name].shape == (3, 3, 16) for name in ("ids", "mask", "reads"))
    values = batch["latents"][:, 0, :, 0, 0]
    assert batch["covers"].shape == (3, 18, 4, 4)
    assert torch.allclose(batch["covers"][..., 0, 0] * 255, values * 16)  # of the same frames
    number = values.floor().long()
    for row in range(3):
        assert torch.equal(values[row, :16], number[row, 0] + torch.arange(16) / 16)


def test_error_where_a_subject_is_counts_more_often(source):
    task = make_task(source)
    stir(task.model)

    def cost(weight, covers, gain=1.0):
        weighted = replace(task, subject_weight=weight)
        batch = {**task.batches[0], "covers": covers, "gains": torch.full((2, 18), gain)}
        return float(weighted.loss(task.model, batch, torch.Generator().manual_seed(0))[0])

    nowhere = torch.zeros(2, 18, 4, 4)
    somewhere = nowhere.clone()
    somewhere[:, :, 1:3, 1:3] = 1
    assert cost(5.0, nowhere) == cost(1.0, nowhere) == cost(1.0, somewhere)
    assert cost(5.0, nowhere + 1) == pytest.approx(cost(1.0, nowhere))  # everywhere alike
    assert abs(cost(5.0, somewhere) - cost(1.0, somewhere)) > 1e-3
    assert cost(5.0, somewhere, gain=2.0) == pytest.approx(cost(10.0, somewhere))


def test_stills_alone_have_one_frame_and_one_caption(source):
    batch = make_task(source, 0, 5).batches[5]
    assert batch["latents"].shape == (5, 5, 1, 4, 4)
    assert batch["ids"].shape == (5, 1, 16)
    assert len(batch["latents"][:, 0, 0, 0, 0].unique()) > 1


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_stage_may_see_two_subjects_as_often_as_it_likes(source, share):
    """In clips and in stills; here one clip in eight shows two."""
    two = replace(source.specs[3], partner="rocket", partner_motion="left")
    paired = replace(source, specs=(*source.specs[:3], two, *source.specs[4:]))
    batches = replace(make_task(paired, 20, 4).batches, pairs=share)
    frames = torch.cat([batches[n]["latents"][:, 0, :, 0, 0].floor() for n in range(3)])
    of_two = (frames == 3).float()
    assert abs(float(of_two[:, 0].mean()) - share) < 0.2  # of 60 clips
    assert abs(float(of_two[:, 16:].mean()) - share) < 0.1  # of 240 stills
    assert len(frames[:, 16:].unique()) == 8
    alone = replace(make_task(source).batches, pairs=share)
    with pytest.raises(DataError, match=r"0 of 8 clips show two subjects.*composition pair"):
        alone[0]


@pytest.mark.parametrize("pairs", [None, 0.5])
def test_favoured_clips_are_drawn_more_often(source, pairs):
    """One clip in eight shows a place of its own; nine times as often makes nine of sixteen."""
    seven = [replace(spec, scene="plain", colour="blue") for spec in source.specs]
    rare = replace(seven[2], colour="red")
    two = replace(seven[5], partner="rocket", partner_motion="left")
    specs = (*seven[:2], rare, *seven[3:5], two, *seven[6:])
    even = replace(make_task(replace(source, specs=specs), 20, 4).batches, pairs=pairs)
    favouring = replace(even, favoured={"red": 9.0})

    def share(batches):
        frames = torch.cat([batches[n]["latents"][:, 0, :, 0, 0].floor() for n in range(4)])
        return float((frames[:, 15:] == 2).float().mean())  # of 80 clips and 320 stills

    whole = 1.0 if pairs is None else 0.5  # of what is drawn comes from the kind that has it
    of_kind = 8 if pairs is None else 7
    assert abs(share(even) - whole / of_kind) < 0.06
    assert abs(share(favouring) - whole * 9 / (8 + of_kind)) < 0.06
    with pytest.raises(DataError, match="favoured has dragon, which none of 8 clips shows"):
        replace(even, favoured={"dragon": 2.0, "red": 2.0})[0]


def test_batches_say_how_faint_their_subjects_are(source):
    """Subjects 3 to 10 eighths away from what is behind: the nearer, the more it counts."""
    latents = torch.zeros(8, 4, 16, 4, 4)
    latents[..., 1, :2] = torch.arange(3, 11)[:, None, None, None] / 8
    covers = torch.zeros(8, 16, 4, 4, dtype=torch.uint8)
    covers[..., 1, :2] = 255
    faint = replace(source, latents=latents.half(), covers=covers)
    even = make_task(faint, 20, 2).batches
    assert even[0]["gains"].unique().tolist() == [1.0]
    batch = replace(even, contrast_power=0.5)[0]
    distance, gain = batch["latents"].amax((1, 3, 4)), batch["gains"]
    assert gain.shape == (20, 18) and len(gain.unique()) > 5
    products = distance * gain  # of a squared distance's root
    assert torch.allclose(products, products[:1, :1].expand_as(products), rtol=1e-3)


@pytest.mark.parametrize(("clips", "images"), [(3, 2), (0, 6)])
def test_caption_belongs_to_its_latents(source, clips, images):
    """Every caption names subject and motion of the clip that its latents come from."""
    task = make_task(source, clips, images, drop=0.0)
    batch = task.batches[1]
    first = 16 if clips else 1
    frames = batch["latents"][:, 0, :, 0, 0].floor().long()
    numbers = torch.cat([frames[:, :1], frames[:, first:]], dim=1)
    texts = task.text_encoder.tokenizer.batch_decode(
        batch["ids"].flatten(0, 1), skip_special_tokens=True
    )
    assert len(texts) == numbers.numel()
    for text, number in zip(texts, numbers.flatten().tolist(), strict=True):
        spec = source.specs[number]
        noun = {"cat": ("cat", "kitty", "kitten"), "rocket": ("rocket", "spaceship")}[spec.subject]
        assert spec.motion in text.split()
        assert set(noun) & set(text.split())


def test_batches_are_named_by_number(source):
    one, same = make_task(source, seed=1).batches, make_task(source, seed=2).batches
    assert all(torch.equal(one[4][name], same[4][name]) for name in one[4])
    assert not torch.equal(one[4]["ids"], one[5]["ids"])


def test_dropped_captions_are_laid_out_as_sampling_lays_them_out(source):
    """Hidden states of a dropped caption equal the empty prompt's, cut to the caption's length."""
    task = make_task(source, 0, 8, drop=1.0)
    batch, told = task.batches[0], make_task(source, 0, 8, drop=0.0).batches[0]
    assert torch.equal(batch["reads"], told["mask"])
    assert batch["mask"].sum() == 8  # the end token alone
    with torch.no_grad():
        states = task.text_encoder.forward(batch["ids"][:, 0], batch["mask"][:, 0])
    for row, reads in zip(states, batch["reads"][:, 0].bool(), strict=True):
        expected = task.text_encoder.encode_null(int(reads.sum()))[0]
        torch.testing.assert_close(row[reads], expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        kept = task.text_encoder.forward(told["ids"][:, 0], told["mask"][:, 0])
    assert not torch.allclose(kept[0, :3], states[0, :3], atol=1e-3)


def test_kept_captions_are_read_as_sampling_reads_them(source):
    """Padding changes nothing: states of a caption in a batch equal those of it alone."""
    task = make_task(source, 0, 4, drop=0.0)
    batch = task.batches[0]
    texts = task.text_encoder.tokenizer.batch_decode(batch["ids"][:, 0], skip_special_tokens=True)
    with torch.no_grad():
        states = task.text_encoder.forward(batch["ids"][:, 0], batch["mask"][:, 0])
    for row, reads, text in zip(states, batch["reads"][:, 0].bool(), texts, strict=True):
        expected = task.text_encoder.encode(text)[0]
        torch.testing.assert_close(row[reads], expected, rtol=1e-5, atol=1e-5)


def test_share_of_dropped_captions(source):
    task = make_task(source, 0, 50, drop=0.2)
    ends = torch.cat([task.batches[n]["mask"].sum(-1) == 1 for n in range(12)])
    assert 0.14 < float(ends.float().mean()) < 0.26  # 600 draws


def fixed_loss(task):
    """The loss on fixed batches with fixed noise."""
    task.model.eval()
    with torch.no_grad():
        draws = [torch.Generator().manual_seed(n) for n in range(6)]
        losses = [task.loss(task.model, task.batches[900 + n], g)[0] for n, g in enumerate(draws)]
    task.model.train()
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize(("clips", "images"), [(2, 2), (0, 8)])
def test_few_steps_lower_the_loss(source, clips, images, tmp_path):
    task = make_task(source, clips, images)
    before = fixed_loss(task)
    plan = LoopConfig(
        steps=15, learning_rate=4e-3, warmup_steps=1, workers=0, device="cpu", log_every=5
    )
    task.prompts = RECIPE.prompts[:1]
    Trainer(task, plan, tmp_path).run()
    assert fixed_loss(task) < 0.9 * before


@pytest.mark.parametrize(("clips", "images"), [(2, 2), (0, 4)])
def test_stills_with_timesteps_of_their_own(source, clips, images):
    """Each still is told its own, the clip keeps its, and the loss is finite and learns."""
    task, seen = make_task(source, clips, images), []
    task.image_timesteps = "single"

    def watched(noisy, steps, batch, num_images):
        seen.append(steps)
        return task.model(noisy, steps, batch, num_images)

    stir(task.model)
    loss, _ = task.loss(watched, task.batches[0], torch.Generator().manual_seed(0))
    loss.backward()
    assert seen[0].shape == ((clips, 1 + images) if clips else (images, 2))
    assert len(seen[0][:, 1:].unique()) > 1
    assert all(p.grad is not None for p in task.model.latte.timestep.parameters())


def test_a_stage_says_how_its_stills_draw_timesteps(source, tmp_path, monkeypatch):
    from latte_core.training import stages

    monkeypatch.setattr(stages, "load_vae", lambda folder: None)
    data = tiny_recipe_data()
    data["video"]["image_timesteps"] = "single"
    recipe = parse_recipe(data)
    encoder = make_text_encoder(recipe)
    model = TextToVideo(Latte(recipe.transformer), encoder.model)
    of = [
        stages.make_task(recipe, settings, model, encoder, source, tmp_path).image_timesteps
        for settings in (recipe.video, recipe.motion)
    ]
    assert of == ["single", None]


def test_text_encoder_learns_with_the_network(source):
    task = make_task(source)
    stir(task.model)
    loss, figures = task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))
    loss.backward()
    assert set(figures) == {"mse", "vb"}
    assert all(p.grad is not None for p in task.text_encoder.model.parameters())


def test_killed_run_of_the_network_goes_on_bit_equal(source, tmp_path):
    plan = {"steps": 4, "warmup_steps": 1, "workers": 0, "device": "cpu", "save_every": 2}
    whole = make_task(source)
    average = Trainer(whole, LoopConfig(**plan, log_every=1), tmp_path / "whole").run()
    killed = make_task(source)
    trainer = Trainer(killed, LoopConfig(**plan, log_every=1), tmp_path / "killed")
    step, trainer._step = trainer._step, lambda *given: _stop_after(trainer, step, *given)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = make_task(source, seed=7)
    trainer = Trainer(again, LoopConfig(**plan, log_every=1), tmp_path / "killed")
    assert trainer.resume()
    resumed = trainer.run()
    for one, two in ((whole.model, again.model), (average, resumed)):
        pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def _stop_after(trainer, step, *given):
    if trainer.progress.step == 3:
        raise KeyboardInterrupt
    return step(*given)


def test_samples_follow_seed_prompt_and_guidance(source):
    task = make_task(source)
    stir(task.model)
    prompts = list(RECIPE.prompts)
    clips = sample_clips(task.model.eval(), task, prompts, 16, steps=2)
    assert [clip.shape for clip in clips] == [(16, 32, 32, 3)] * 2
    assert clips[0].dtype == np.uint8
    again = sample_clips(task.model, task, prompts, 16, steps=2)
    assert np.array_equal(clips[0], again[0])
    (still,) = sample_clips(task.model, task, prompts[:1], 1, steps=2)
    assert still.shape == (1, 32, 32, 3)
    other = ["a spaceship travels left on a plain white background", prompts[1]]
    changed = sample_clips(task.model, task, other, 16, steps=2)
    assert not np.array_equal(clips[0], changed[0])
