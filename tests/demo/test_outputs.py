import os
import time

import numpy as np
import pytest

from demo.outputs import ABANDONED_S, KEEP_S, PREFIX, Outputs
from latte_core import Generation, MediaError, read_clip, read_recipe


def generation(stills=0):
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    latents = np.zeros((1, 4, 4, 4, 4), np.float32)
    return Generation(
        frames, tuple(frames[:stills]), latents, latents, 7, 8, {}, {"prompt": "a cat", "seed": 7}
    )


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_outputs_save_a_clip_and_stills_that_carry_their_recipe(tmp_path):
    saved = Outputs(tmp_path).save(generation(stills=2), "joint")
    assert read_clip(saved.clip).shape == (4, 32, 32, 3)
    assert [path.name for path in saved.stills] == ["latte-7-still-1.png", "latte-7-still-2.png"]
    for path in (saved.clip, *saved.stills):
        assert read_recipe(path)["prompt"] == "a cat"


def test_outputs_of_image_mode_have_no_clip(tmp_path):
    saved = Outputs(tmp_path).save(generation(stills=1), "image")
    assert saved.clip is None and len(saved.stills) == 1


def test_outputs_lie_in_folders_that_cannot_be_guessed(tmp_path):
    outputs = Outputs(tmp_path)
    names = {outputs.new_folder().name for _ in range(20)}
    assert len(names) == 20 and all(len(name) == 32 for name in names)


def test_outputs_sweep_old_films_and_keep_young_ones(tmp_path):
    outputs = Outputs(tmp_path)
    old, young = outputs.new_folder(), outputs.new_folder()
    age(old, KEEP_S + 60)
    age(young, KEEP_S - 60)
    outputs.new_folder()
    assert not old.exists() and young.exists()


def test_outputs_sweep_what_a_killed_server_left_and_nothing_else(tmp_path):
    left, alive, foreign = (tmp_path / name for name in (f"{PREFIX}a", f"{PREFIX}b", "other"))
    for folder in (left, alive, foreign):
        folder.mkdir()
    age(left, ABANDONED_S + 60)
    age(foreign, ABANDONED_S + 60)
    Outputs(tmp_path)
    assert not left.exists() and alive.exists() and foreign.exists()


def test_outputs_say_in_a_sentence_that_the_disk_refuses(tmp_path):
    outputs = Outputs(tmp_path)
    outputs.root.rmdir()
    outputs.root.write_text("a file where the folder was")
    with pytest.raises(MediaError, match=r"No folder .* could be made .* try again\."):
        outputs.save(generation(), "video")
