"""Prompt following: prompts that were held out, a fair count, a floor and a ceiling."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latte_core.data.captions import vocabulary
from latte_core.data.render import render_clip
from latte_core.data.world import ClipSpec, World
from latte_core.errors import CheckpointError
from latte_core.evaluation import prompt_following as following
from latte_core.evaluation.probe import (
    HEADS,
    IGNORED,
    ProbeBatches,
    ProbeTask,
    WorldProbe,
    answers_of,
    head_names,
    judge,
    labels_of,
    load_probe,
    save_probe,
    start_probe,
)

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "world" / "probe.safetensors"
WORLD = World(("cat", "rocket"), ("left", "right"), ("plain", "night"), ("red", "blue", "white"))


class Oracle(torch.nn.Module):
    """Knows every clip that it was told about, by the sum of its pixels."""

    def __init__(self, specs, world=WORLD):
        super().__init__()
        self.world = world
        clips = [render_clip(spec, 16, 64).astype(np.float64) / 127.5 - 1 for spec in specs]
        self.known = [(clip.sum(), spec) for clip, spec in zip(clips, specs, strict=True)]

    def forward(self, clips):
        total = float(clips.double().sum())
        spec = min(self.known, key=lambda pair: abs(pair[0] - total))[1]
        said = answers_of(spec)
        return {
            head: torch.tensor([[float(name == said.get(head)) for name in names]])
            for head, names in head_names(self.world).items()
        }


def test_prompts_are_held_out_and_named_by_their_seed():
    prompts = following.held_out_prompts(WORLD, 12)
    assert all(WORLD.is_held_out(p.spec) for p in prompts)
    assert prompts == following.held_out_prompts(WORLD, 12)
    assert len({p.seed for p in prompts}) == 12
    assert prompts != following.held_out_prompts(WORLD, 12, seed=1)
    assert all(set(p.prompt.split()) <= set(vocabulary(WORLD)) for p in prompts)
    russian = following.held_out_prompts(WORLD, 12, language="ru")
    assert [p.spec for p in russian] == [p.spec for p in prompts]
    assert not {p.prompt for p in russian} & {p.prompt for p in prompts}


def test_prompts_stay_those_of_the_published_figures():
    """Figures of one year can be compared with those of another: same seed, same sentences."""
    world = World(WORLD.subjects, WORLD.motions, WORLD.scenes, WORLD.colours, ("en", "ru"))
    told = [p.prompt for p in following.held_out_prompts(world, 3)]
    assert told == [
        "on a plain blue background the small rocket moves to the left",
        "a cat travels right on a plain white background",
        "a rocket goes left on a plain blue background",
    ]
    assert [p.prompt for p in following.held_out_prompts(world, 3, language="ru")] == [
        "маленький звездолет идет влево на однотонном синем фоне",
        "едет направо котик на белом фоне",
        "звездолет едет налево на синем фоне",
    ]


def test_right_clips_score_all_and_shuffled_prompts_score_less():
    specs = [p.spec for p in following.held_out_prompts(WORLD, 8)]
    clips = [render_clip(spec, 16, 64) for spec in specs]
    oracle = Oracle(specs)
    row = following.score(oracle, clips, specs, "real")
    assert (row.row, row.count) == ("real", 8)
    assert all(value == 1 for value in row.right.values() if not math.isnan(value))
    moved = following.shuffled(specs)
    assert sorted(s.seed for s in moved) == sorted(s.seed for s in specs)
    assert all(a.seed != b.seed for a, b in zip(moved, specs, strict=True))
    floor = following.score(oracle, clips, moved, "floor")
    agree = np.mean([a.subject == b.subject for a, b in zip(specs, moved, strict=True)])
    assert floor.right["subject"] == agree < 1
    both = [_same(a, b) for a, b in zip(specs, moved, strict=True)]
    assert floor.right["all"] == np.mean(both) < 1


def _same(one, other):
    """Whether two specs say the same, colour on plain ground only."""
    colours = one.colour == other.colour or other.scene != "plain"
    names = ("subject", "motion", "scene")
    return colours and all(getattr(one, name) == getattr(other, name) for name in names)


def test_stills_count_beside_right_clips_only():
    specs = [WORLD.draw(np.random.default_rng(i)) for i in range(40)]
    night = next(s for s in specs if s.scene == "night")
    plain = next(s for s in specs if s.scene == "plain" and s.colour == "white")
    clips = {spec.seed: render_clip(spec, 16, 64) for spec in (night, plain)}

    class Stills(torch.nn.Module):
        """Tells the two scenes' clips, standing or moving, by how dark they are."""

        world = WORLD

        def forward(self, clips):
            spec = night if float(clips.mean()) < 0 else plain
            return {
                head: torch.tensor([[float(name == getattr(spec, head)) for name in names]])
                for head, names in head_names(WORLD).items()
            }

    probe, clip = Stills(), clips[night.seed]
    stills = [clip[3], clips[plain.seed][3]]
    assert following.score_stills(probe, clip, stills, night) == [True, False]
    assert following.score_stills(probe, clip, stills, plain) is None


def test_colour_counts_on_plain_ground_only():
    rng = np.random.default_rng(0)
    specs = [s for s in (WORLD.draw(rng) for _ in range(40)) if s.scene == "night"][:2]
    clips = [render_clip(spec, 16, 64) for spec in specs]
    row = following.score(Oracle(specs), clips, specs, "night")
    assert math.isnan(row.right["colour"])
    assert labels_of(WORLD, specs[0])["colour"] == IGNORED


PAIRS = World(
    ("cat", "rocket", "star"),
    ("left", "up", "down"),
    ("plain", "meadow", "desert", "snow", "road", "night"),
    ("red", "blue", "white"),
    compositions=("pair", "camera", "light"),
)
PAIR = ClipSpec("cat", "up", "meadow", "red", "", 1, "star", "down", light="night")


def test_perfect_probe_scores_all_of_a_composed_clip():
    for composition, heads in (("pair", set()), ("camera", {"camera"}), ("light", {"light"})):
        prompts = following.held_out_prompts(PAIRS, 6, composition=composition)
        specs = [p.spec for p in prompts]
        assert all(spec.has(composition) and PAIRS.is_held_out(spec) for spec in specs)
        clips = [render_clip(spec, 16, 64) for spec in specs]
        oracle = Oracle(specs, PAIRS)
        row = following.score(oracle, clips, specs, "real")
        assert set(row.right) == {*HEADS, "all"} | heads
        assert all(value == 1 for value in row.right.values() if not math.isnan(value))
        floor = following.score(oracle, clips, following.shuffled(specs), "floor")
        assert floor.right["all"] < 1
        assert following.format_table([row]).count("100.0 %") >= 4


def test_prompts_of_any_composition_are_mixed_as_the_world_mixes_them():
    specs = [p.spec for p in following.held_out_prompts(PAIRS, 200, composition="any")]
    assert all(PAIRS.is_held_out(spec) for spec in specs)
    for composition in PAIRS.compositions:
        assert 10 < sum(spec.has(composition) for spec in specs) < 150
    assert sum(not any(map(spec.has, PAIRS.compositions)) for spec in specs) > 40
    plain = [p.spec for p in following.held_out_prompts(PAIRS, 200)]
    assert not any(spec.has(name) for spec in plain for name in PAIRS.compositions)


def test_two_are_right_if_the_first_stands_left_and_each_has_its_own_motion():
    said = {"scene": "meadow", "light": "night", "colour": "red", "camera": ""}

    def marks(left, right):
        answer = dict(said)
        for half, (subject, motion) in (("left", left), ("right", right)):
            answer |= {f"{half} subject": subject, f"{half} motion": motion}
        return following._marks(answer, PAIR)

    right = {"scene": True, "light": True, "subject": True, "motion": True}
    assert marks(("cat", "up"), ("star", "down")) == right
    assert marks(("star", "down"), ("cat", "up")) == right | {"subject": False, "motion": False}
    assert marks(("cat", "down"), ("star", "up")) == right | {"motion": False}
    assert marks(("cat", "up"), ("cat", "down")) == right | {"subject": False}
    assert marks(("rocket", "up"), ("star", "down")) == right | {"subject": False}


def test_labels_of_two_are_those_of_the_halves():
    labels = labels_of(PAIRS, PAIR)
    names = head_names(PAIRS)
    told = {h: names[h][k] for h, k in labels.items() if k != IGNORED}
    assert told == {
        **{"scene": "meadow", "camera": "", "light": "night"},
        **{"left subject": "cat", "left motion": "up"},
        **{"right subject": "star", "right motion": "down"},
    }
    frozen = labels_of(PAIRS, PAIR, frozen=True)
    gone = {h for h in labels if labels[h] != IGNORED and frozen[h] == IGNORED}
    assert gone == {"left motion", "right motion", "camera"}


class Seen(torch.nn.Module):
    """Finds nothing in the left half of the picture, and something everywhere in the right."""

    def forward(self, clips):
        features = torch.zeros(len(clips), 16, 2, 4, 4)
        features[..., 2:] = 1
        return features


def test_halves_of_the_picture_are_looked_at_apart():
    torch.manual_seed(0)
    probe = WorldProbe(PAIRS, 4).eval()
    clips = torch.rand(1, 16, 3, 64, 64) * 2 - 1
    batches = ProbeBatches(PAIRS, 32, 6)
    loss, figures = ProbeTask(probe, batches).loss(probe, batches[0], torch.Generator())
    assert math.isfinite(float(loss.detach())) and set(figures) == set(head_names(PAIRS))
    probe.clip = Seen()
    with torch.no_grad():
        logits = probe(clips)
    for kind in ("subject", "motion"):
        head = probe.heads[f"half {kind}"]
        assert torch.equal(logits[f"left {kind}"][0], head.bias)
        assert torch.allclose(logits[f"right {kind}"][0], head.bias + head.weight.sum(1), atol=1e-5)


def test_probe_goes_on_from_another_that_knew_less(tmp_path):
    torch.manual_seed(0)
    plain = WorldProbe(PAIRS.plainly, 4).half().float()
    save_probe(plain, tmp_path / "probe.safetensors")
    more = WorldProbe(PAIRS, 4)
    new = start_probe(more, tmp_path / "probe.safetensors")
    heads = ("camera", "light", "half subject", "half motion")
    assert new == sorted(f"heads.{head}.{part}" for head in heads for part in ("weight", "bias"))
    clips = torch.rand(1, 16, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain.eval()(clips)["subject"], more.eval()(clips)["subject"])
    for kind in ("subject", "motion"):  # a half begins as the whole
        assert torch.equal(more.heads[f"half {kind}"].weight, plain.heads[kind].weight)


def test_table_has_ceiling_generated_and_floor():
    prompts = following.held_out_prompts(WORLD, 4)
    oracle = Oracle([p.spec for p in prompts])
    rows = list(
        following.measure_following(
            oracle, prompts, lambda p: render_clip(p.spec, 16, 64), lambda clip: clip
        )
    )
    assert [row.right["motion"] for row in rows[:3]] == [1, 1, 1]
    assert "ceiling" in rows[0].row and "floor" in rows[-1].row
    lines = following.format_table(rows).splitlines()
    assert lines[0] == "| clips | n | subject | motion | scene | colour | all |"
    assert len(lines) == 2 + len(rows)
    assert lines[2].startswith("| rendered (ceiling) | 4 | 100.0 % | 100.0 %")
    assert following.as_json(rows)[0]["motion"] == 1


def test_share_of_the_clips_stands_still_and_has_no_motion():
    batch = ProbeBatches(WORLD, 32, 40, plain=True, frozen=0.5)[0]
    still = (batch["clips"] == batch["clips"][:, :1]).flatten(1).all(1)
    assert 8 <= int(still.sum()) <= 32
    assert torch.equal(batch["motion"] == IGNORED, still)
    assert (batch["subject"] != IGNORED).all()
    moving = ProbeBatches(WORLD, 32, 40, plain=True)[0]
    assert (moving["motion"] != IGNORED).all()


def test_probe_learns_what_a_clip_shows():
    torch.manual_seed(0)
    probe = WorldProbe(WORLD, 8)
    task = ProbeTask(probe, ProbeBatches(WORLD, 32, 8, plain=True))
    adam = torch.optim.AdamW(probe.parameters(), lr=5e-3)
    for number in range(40):
        loss, figures = task.loss(probe, task.batches[number % 10], torch.Generator())
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert set(figures) == set(HEADS)
    batch = task.batches[0]
    with torch.no_grad():
        logits = probe.eval()(batch["clips"])
    right = (logits["scene"].argmax(1) == batch["scene"]).float().mean()
    assert right >= 0.9  # the quickest of the heads; subjects and motions take minutes


def test_probe_survives_the_disk(tmp_path):
    torch.manual_seed(1)
    probe = WorldProbe(WORLD, 4).half().float()
    save_probe(probe, tmp_path / "probe.safetensors")
    loaded = load_probe(tmp_path / "probe.safetensors")
    assert loaded.world == WORLD
    clips = np.stack([render_clip(WORLD.draw(np.random.default_rng(i)), 16, 32) for i in range(2)])
    answers = judge(probe, clips)
    assert judge(loaded, clips) == answers
    assert set(answers[0]) == set(HEADS)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_probe(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_probe(tmp_path / "broken.safetensors")


def test_composed_batches_show_what_is_rarely_drawn():
    world = replace(PAIRS, compositions=("camera",))
    side = {
        share: torch.cat(
            [ProbeBatches(world, 16, 8, composed=share)[n]["camera"] for n in range(3)]
        )
        for share in (0.0, 1.0)
    }
    assert (side[1.0] > 0).all()  # to the left or to the right
    assert (side[0.0] == 0).any()
    simple = ProbeBatches(PAIRS.plainly, 16, 4, composed=1.0)[0]
    assert "camera" not in simple


def test_head_that_no_clip_has_is_left_empty_in_the_table():
    row = following.Following("generated", 2, {"subject": 0.5, "colour": math.nan, "all": 0.5})
    assert (
        following.format_table([row]).splitlines()[-1] == "| generated | 2 | 50.0 % |  | 50.0 % |"
    )


def test_larger_frames_are_read_at_the_probes_own_size():
    """A clip of twice the side shows what it shows at 64: it is scaled before it is read."""
    probe = load_probe(SHIPPED)
    specs = [probe.world.plainly.draw(np.random.default_rng(i)) for i in range(6)]
    small, large = (
        [judge(probe, render_clip(spec, 16, side)[None])[0] for spec in specs] for side in (64, 128)
    )
    assert large == small
    assert [answer["subject"] for answer in large] == [spec.subject for spec in specs]
