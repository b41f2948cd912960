"""The history on disk: what survives, what is bounded, and who sees what."""

import json
import os
import time

import numpy as np
import pytest
from PIL import Image, ImageSequence

from demo.history import LEFTOVER_S, SIDECAR, History, Limits
from latte_core import Generation, MediaError, read_clip, read_recipe


def generation(seed=7, stills=0, side=32):
    frames = np.random.default_rng(seed).integers(0, 256, (4, side, side, 3), np.uint8)
    latents = np.zeros((1, 4, 4, 4, 4), np.float32)
    recipe = {"prompt": "a cat", "seed": seed}
    return Generation(
        frames,
        tuple(frames[:stills]),
        latents,
        latents,
        seed,
        8,
        {"denoise_s": 1.5},
        recipe,
        {"peak": 0.25},
    )


def add(history, seed=7, owner="", **options):
    return history.add(generation(seed, **options), "video", owner)


def seeds(history, owner=""):
    return [entry.recipe["seed"] for entry in history.entries(owner)]


def test_history_survives_a_restart_newest_first(tmp_path):
    first = History(tmp_path / "runs")
    for seed in (1, 2, 3):
        add(first, seed)
    again = History(tmp_path / "runs")
    assert again.entries("") == first.entries("") and seeds(again) == [3, 2, 1]
    entry = again.entries("")[0]
    assert read_clip(entry.clip).shape == (4, 32, 32, 3)
    assert read_recipe(entry.clip) == entry.recipe == {"prompt": "a cat", "seed": 3}
    assert (entry.fps, entry.frames, entry.width, entry.timings) == (8, 4, 32, {"denoise_s": 1.5})
    assert entry.memory_gib == {"peak": 0.25}


def test_history_thumbnails_move_are_small_and_carry_the_recipe(tmp_path):
    entry = add(History(tmp_path), side=512)
    with Image.open(entry.thumbnail) as picture:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
    assert len(frames) == 4 and max(frames[0].shape) <= 160
    assert (frames[0] != frames[1]).any()
    assert read_recipe(entry.thumbnail) == entry.recipe


def test_history_keeps_the_stills_of_image_mode(tmp_path):
    entry = History(tmp_path).add(generation(stills=2), "image", "")
    assert entry.clip is None and entry.frames == 1
    assert [path.name for path in entry.stills] == ["latte-7-still-1.png", "latte-7-still-2.png"]


def test_history_of_a_private_server_is_each_visitors_own(tmp_path):
    history = History(tmp_path, private=True)
    hers, his = add(history, 1, "ann"), add(history, 2, "bob")
    assert seeds(history, "ann") == [1] and seeds(history, "bob") == [2]
    assert seeds(history, "") == []
    assert history.get(his.key, "ann") is None and not history.delete(his.key, "ann")
    assert history.get(hers.key, "ann") == hers
    assert his.folder.is_dir()
    # the same folder opened by the person at the machine shows all of it
    assert seeds(History(tmp_path)) == [2, 1]


def test_history_at_home_is_one_for_all_tabs(tmp_path):
    history = History(tmp_path)
    entry = add(history, 1, "one tab")
    assert entry.owner == "" and history.get(entry.key, "another tab") == entry


def test_history_deletes_a_run_with_its_files(tmp_path):
    history = History(tmp_path)
    entry = add(history)
    assert history.delete(entry.key, "") and not history.delete(entry.key, "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("key", ["", "..", "../x", "g" * 32, None, 5, "a" * 33])
def test_history_takes_no_key_that_is_none(tmp_path, key):
    history = History(tmp_path / "runs")
    assert history.get(key, "") is None and not history.delete(key, "")


def test_history_drops_the_oldest_when_there_are_too_many(tmp_path):
    history = History(tmp_path, limits=Limits(entries=2))
    for seed in (1, 2, 3):
        add(history, seed)
    assert seeds(history) == [3, 2] and len(os.listdir(tmp_path)) == 2


def test_history_bounds_one_visitor_without_touching_another(tmp_path):
    history = History(tmp_path, private=True, limits=Limits(entries_per_owner=1))
    add(history, 1, "ann")
    for seed in (2, 3):
        add(history, seed, "bob")
    assert seeds(history, "ann") == [1] and seeds(history, "bob") == [3]


def test_history_drops_the_oldest_when_it_grows_too_large(tmp_path):
    history = History(tmp_path, limits=Limits(total_bytes=1))
    for seed in (1, 2):
        add(history, seed)
    assert seeds(history) == [2]


def test_history_sees_what_another_server_adds_and_deletes(tmp_path):
    one, other = History(tmp_path), History(tmp_path)
    entry = add(one, 1)
    assert seeds(other) == [1]
    other.delete(entry.key, "")
    assert seeds(one) == []


def test_history_leaves_out_what_is_damaged_and_goes_on(tmp_path):
    history = History(tmp_path)
    broken, foreign, good = (add(history, seed) for seed in (1, 2, 3))
    (broken.folder / SIDECAR).write_text("{")
    known = json.loads((foreign.folder / SIDECAR).read_text())
    (foreign.folder / SIDECAR).write_text(json.dumps({**known, "clip": "../../secret.mp4"}))
    assert seeds(History(tmp_path)) == [good.recipe["seed"]]


def test_history_sweeps_what_a_crash_left(tmp_path):
    names = (".a.gone", ".b.working", ".c.working", "notes")
    for name in names:
        (tmp_path / name).mkdir()
    then = time.time() - LEFTOVER_S - 60
    os.utime(tmp_path / ".b.working", (then, then))
    History(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".c.working", "notes"]


def test_history_that_fails_to_write_leaves_nothing_and_says_why(tmp_path, monkeypatch):
    history = History(tmp_path / "runs")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("demo.history.write_files", full)
    with pytest.raises(MediaError, match="No space left on device"):
        add(history)
    assert os.listdir(tmp_path / "runs") == []
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="--history"):
        History(tmp_path / "file")
