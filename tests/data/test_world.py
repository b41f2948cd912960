"""The captioned world: clips that a seed names, motions that move, captions that say so."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from latte_core.data.motions import MOTIONS, Mover, faces_right, trace
from latte_core.data.render import render_clip, render_covered
from latte_core.data.scenes import COLOURS, SCENES
from latte_core.data.sprites import SPRITES, SUBJECTS, sprite_pyramid
from latte_core.data.world import ClipSpec, World
from latte_core.errors import DataError

SIZE = 48


def spec_of(motion, seed=3, subject="balloon", scene="plain", colour="white", size=""):
    return ClipSpec(subject, motion, scene, colour, size, seed)


def subject_moments(spec):
    """Centre x, y and area of what differs from the plain ground, frame by frame.

    Plain ground is a vertical gradient, so the column at the left edge shows all of it.
    """
    clip = render_clip(spec, 16, SIZE).astype(np.float64)
    weight = np.abs(clip - clip[:, :, :1]).sum(-1)
    weight[weight < 60] = 0
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    mass = weight.sum((1, 2))
    area = (weight > 0).mean((1, 2))
    return (weight * x).sum((1, 2)) / mass, (weight * y).sum((1, 2)) / mass, area


def test_same_seed_draws_the_same_clip():
    for scene in ("plain", *SCENES):
        spec = spec_of("circle", scene=scene)
        first, again = render_clip(spec, 8, 32), render_clip(spec, 8, 32)
        assert first.shape == (8, 32, 32, 3)
        assert first.dtype == np.uint8
        assert np.array_equal(first, again)
        other = render_clip(replace(spec, seed=4), 8, 32)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("scene", ["plain", "sea", "snow", "underwater", "city"])
def test_some_frames_equal_those_of_the_whole_clip(scene):
    spec = spec_of("left", subject="cat", scene=scene)
    whole = render_clip(spec, 16, 32, width=48)
    assert whole.shape == (16, 32, 48, 3)
    assert np.array_equal(render_clip(spec, 16, 32, width=48, only=(11, 2)), whole[[11, 2]])


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_directions_move_as_they_are_called(motion, axis, sign, seed):
    centre = subject_moments(spec_of(motion, seed, size="small"))[axis]
    middle = centre[3:13]  # at the ends the subject may be half out of the picture
    assert sign * (middle[-1] - middle[0]) > 0.15
    assert np.all(sign * np.diff(middle) > -0.005)
    across = subject_moments(spec_of(motion, seed, size="small"))[1 - axis][3:13]
    assert np.ptp(across) < 0.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sizes_change_as_they_are_called(seed):
    area = subject_moments(spec_of("grow", seed, size="small"))[2]
    assert area[-1] > 3 * area[0]
    area = subject_moments(spec_of("shrink", seed, size="small"))[2]
    assert area[0] > 3 * area[-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_motions_have_their_own_marks(seed):
    still = render_clip(spec_of("still", seed), 16, SIZE)
    assert np.array_equal(still, np.repeat(still[:1], 16, 0))
    _, y, _ = subject_moments(spec_of("bounce", seed, size="small"))
    turns = np.diff(np.sign(np.diff(y)))
    assert np.count_nonzero(turns) >= 3
    x, y, _ = subject_moments(spec_of("circle", seed, size="small"))
    assert np.hypot(x[0] - x[-1], y[0] - y[-1]) < 0.03
    assert min(np.ptp(x), np.ptp(y)) > 0.25
    x, y, _ = subject_moments(spec_of("zigzag", seed, size="small"))
    assert abs(x[12] - x[3]) > 0.15
    assert np.count_nonzero(np.diff(np.sign(np.diff(y[2:14])))) >= 3
    x, y, _ = subject_moments(spec_of("spin", seed, subject="rocket", size="small"))
    assert np.hypot(np.ptp(x), np.ptp(y)) < 0.12
    wide, tall = (spin_extent(seed, axis) for axis in (0, 1))
    assert wide[4] == wide[11] == wide.min() < 0.4 * wide.max()  # its edge, twice in a turn
    assert np.ptp(tall) <= 2
    x, y, _ = subject_moments(spec_of("swing", seed, size="small"))
    assert 0.1 < np.ptp(x) < 0.3
    assert len(MOTIONS) == 12  # a new motion brings its mark


def spin_extent(seed, axis):
    """How many columns (axis 0) or rows (1) the subject covers in each frame of a turn."""
    cover = render_covered(spec_of("spin", seed, subject="rocket"), 16, SIZE)[1] > 128
    return cover.any(axis=1 + axis).sum(1)


def test_half_a_turn_shows_the_other_side():
    """A car's mirrored picture, and the picture itself where the turn ends."""
    spec = spec_of("spin", subject="car", size="small")
    covers = render_covered(spec, 31, SIZE, only=(0, 15, 30))[1]
    front, back, again = covers.astype(int)
    assert np.array_equal(front, again)
    middle = [int((c.sum(0) * np.arange(SIZE)).sum() / c.sum()) for c in (front, back)]
    a, b = (c[:, m - 12 : m + 13] for c, m in zip((front, back), middle, strict=True))
    assert np.abs(a - b[:, ::-1]).mean() < 0.5 * np.abs(a - b).mean()


@pytest.mark.parametrize(("colour", "sign"), [("white", -1), ("blue", -1), ("black", 1)])
def test_a_rim_sets_subjects_off_from_their_ground(colour, sign):
    """Darker than light ground and lighter than dark ground, close to the subject alone."""
    spec = spec_of("still", subject="whale", colour=colour)  # which casts no shadow
    frames, covers = render_covered(spec, 1, 128)
    change = frames[0].mean(-1) - frames[0, :, :1].mean(-1)
    near = [Image.fromarray(covers[0]).filter(ImageFilter.MaxFilter(n)) for n in (3, 7, 31)]
    inner, outer, far = (np.asarray(picture) for picture in near)
    rim = change[(inner < 8) & (outer > 128)]
    assert (sign * rim > 4).mean() > 0.9
    assert sign * rim.mean() > 15
    assert np.abs(change[far == 0]).max() <= 1


def test_side_views_face_the_way_that_they_go():
    left = render_clip(spec_of("left", subject="car"), 17, SIZE, only=(8,))[0]
    right = render_clip(spec_of("right", subject="car"), 17, SIZE, only=(8,))[0]
    x = [np.abs(f.astype(int) - f[:, :1]).sum(-1) for f in (left, right)]
    centre = [int((w.sum(0) * np.arange(SIZE)).sum() / w.sum()) for w in x]
    a, b = (w[:, c - 12 : c + 12] for w, c in zip(x, centre, strict=True))
    assert np.abs(a - b[:, ::-1]).mean() < np.abs(a - b).mean()


@pytest.mark.parametrize("motion", sorted(set(MOTIONS) - {"left", "right", "zigzag"}))
def test_what_no_caption_tells_does_not_vary(motion):
    paths = [
        trace(Mover("car", motion), "plain", 16, 1.0, np.random.default_rng(seed))
        for seed in range(8)
    ]
    assert not any(faces_right(path) for path in paths)
    assert len({tuple(np.sign(np.diff(path.angle))) for path in paths}) == 1
    assert len({tuple(path.turn) for path in paths}) == 1


@pytest.fixture(scope="module")
def drawn():
    """Many specs of each split."""
    world, rng = World(), np.random.default_rng(5)
    return [[world.draw(rng, held_out) for _ in range(800)] for held_out in (False, True)]


def combination(spec):
    return spec.subject, spec.motion, spec.colour if spec.scene == "plain" else spec.scene


def test_held_out_combinations_are_a_tenth_and_never_trained_on(drawn):
    trained, held_out = ({combination(s) for s in split} for split in drawn)
    assert not trained & held_out
    world = World()
    places = [("plain", c) for c in COLOURS] + [(s, "red") for s in SCENES]
    every = [spec_of(m, 0, s, *p) for s in SUBJECTS for m in MOTIONS for p in places]
    share = Counter(world.is_held_out(spec) for spec in every)[True] / len(every)
    assert 0.08 < share < 0.12


def test_held_out_split_spares_no_subject_motion_or_scene(drawn):
    for split in drawn:
        assert {s.motion for s in split} == set(MOTIONS)
        assert {s.scene for s in split} == {"plain", *SCENES}
        assert len({s.subject for s in split}) == len(SUBJECTS)


def test_small_world_draws_its_own_names_only():
    world = World(("cat", "car"), ("left",), ("sky", "night"))
    rng = np.random.default_rng(0)
    for spec in (world.draw(rng) for _ in range(50)):
        assert spec.subject in ("cat", "car")
        assert (spec.motion, spec.scene in ("sky", "night")) == ("left", True)


@pytest.mark.parametrize("field", ["subjects", "motions", "scenes", "colours", "languages"])
def test_unknown_names_are_refused(field):
    with pytest.raises(DataError, match=f"World.{field}.*dragon"):
        World(**{field: ("dragon",)})
    with pytest.raises(DataError, match=f"World.{field}"):
        World(**{field: ()})


def test_drawing_keeps_up_with_a_trainer():
    world, rng = World(), np.random.default_rng(0)
    specs = [world.draw(rng) for _ in range(60)]
    for subject in SUBJECTS:
        sprite_pyramid(subject)
    start = time.process_time()
    for spec in specs:
        render_clip(spec, 16, 64)
    assert len(specs) / (time.process_time() - start) >= 40


def test_every_subject_has_a_picture_and_the_pictures_their_licence():
    for name, subject in SUBJECTS.items():
        levels = sprite_pyramid(name)
        assert (SPRITES / f"{subject.code}.webp").is_file()
        assert [p.size for p in levels] == [(s, s) for s in (256, 128, 64, 32, 16)]
        alpha = np.asarray(levels[2])[..., 3]
        assert alpha.min() == 0 and alpha.max() == 255, name
    licence = (SPRITES / "LICENSE").read_text(encoding="utf-8")
    assert "MIT" in licence and "Microsoft" in licence
    assert len({s.code for s in SUBJECTS.values()}) == len(SUBJECTS)


def test_missing_pictures_are_said(tmp_path):
    with pytest.raises(DataError, match="no subject 'dragon'"):
        sprite_pyramid("dragon")
    with pytest.raises(DataError, match="picture of 'cat' is missing"):
        sprite_pyramid("cat", tmp_path)


def test_world_without_held_out_combinations_says_so():
    world = World(("cat",), ("left",), ("sky",), ("red",))
    spec = world.draw(np.random.default_rng(0))
    assert not world.is_held_out(spec)
    with pytest.raises(DataError, match="no held-out combinations"):
        world.draw(np.random.default_rng(0), held_out=True)
