"""Clips and stills on disk: what is written comes back, and nothing half-written ever stays."""

import errno
import os
import signal
import subprocess
import sys

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from latte_core.errors import MediaError
from latte_core.media import clips, landing, read_clip, read_recipe, write_clip, write_still

RECIPE = {
    "prompt": "a red cow — \u041a\u043e\u0440\u043e\u0432\u0430 🐄",
    "seed": 7,
    "guidance_scale": 7.5,
}


@pytest.fixture
def frames():
    """Eight frames with a moving square on a gradient."""
    clip = np.zeros((8, 32, 48, 3), np.uint8)
    clip[..., 0] = np.linspace(0, 255, 48).astype(np.uint8)
    for index, frame in enumerate(clip):
        frame[8:16, 4 * index : 4 * index + 8] = (20, 220, 60)
    return clip


def test_clip_is_read_back_by_another_reader(frames, tmp_path):
    path = write_clip(frames, tmp_path / "clip.mp4", 8, RECIPE)
    other = iio.imread(path, plugin="pyav")
    assert other.shape == frames.shape
    assert np.abs(other.astype(int) - frames).mean() < 8
    details = iio.immeta(path, plugin="pyav")
    assert details["codec"] == "h264"
    assert details["fps"] == 8
    assert "yuv420p" in str(details["video_format"])
    assert np.array_equal(read_clip(path), other)
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_clip_plays_from_its_start(frames, tmp_path):
    data = write_clip(frames, tmp_path / "clip.mp4", 8, RECIPE).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_recipes_come_back(frames, tmp_path):
    assert read_recipe(write_clip(frames, tmp_path / "a.mp4", 8, RECIPE)) == RECIPE
    assert read_recipe(write_still(frames[0], tmp_path / "a.png", RECIPE)) == RECIPE


def test_one_frame_is_a_clip(frames, tmp_path):
    assert read_clip(write_clip(frames[:1], tmp_path / "a.mp4", 8, {})).shape == (1, 32, 48, 3)


def test_still_is_lossless(frames, tmp_path):
    path = write_still(frames[3], tmp_path / "still.png", RECIPE)
    assert np.array_equal(np.asarray(Image.open(path)), frames[3])
    assert os.listdir(tmp_path) == ["still.png"]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.astype(float),
        lambda f: f[:0],
        lambda f: f[0],
        lambda f: f[:, :31],
        lambda f: f[..., :2],
    ],
)
def test_wrong_arrays_are_refused(frames, tmp_path, change):
    with pytest.raises(MediaError):
        write_clip(change(frames), tmp_path / "clip.mp4", 8, RECIPE)
    assert not os.listdir(tmp_path)


def test_wrong_targets_are_refused(frames, tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for name, word in [
        ("clip.avi", r"\.mp4"),
        ("no/clip.mp4", "does not exist"),
        ("folder.mp4", "is a folder"),
    ]:
        with pytest.raises(MediaError, match=word):
            write_clip(frames, tmp_path / name, 8, RECIPE)
    with pytest.raises(MediaError, match="fps"):
        write_clip(frames, tmp_path / "clip.mp4", 0, RECIPE)
    with pytest.raises(MediaError, match="recipe"):
        write_clip(frames, tmp_path / "clip.mp4", 8, {"bad": float("nan")})
    with pytest.raises(MediaError):
        write_still(frames, tmp_path / "still.png", RECIPE)
    assert os.listdir(tmp_path) == ["folder.mp4"]


CHILD = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from latte_core.errors import MediaError
from latte_core.media import write_clip, write_still
action, path = sys.argv[1], Path(sys.argv[2])
frames = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8)
if action == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
else:
    Path.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
try:
    (write_clip(frames, path, 8, {}) if path.suffix == ".mp4" else
     write_still(frames.reshape(512, 64, 3), path, {}))
except MediaError as error:
    sys.exit(str(error))
"""


def run_child(action, path):
    return subprocess.run(
        [sys.executable, "-c", CHILD, action, str(path)], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("name", ["clip.mp4", "still.png"])
def test_a_full_disk_is_reported_and_the_old_file_kept(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    done = run_child("full", path)
    assert "the disk is full" in done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["clip.mp4", "still.png"])
def test_a_killed_write_leaves_no_file_and_the_next_write_sweeps(frames, tmp_path, name):
    path = tmp_path / name
    assert run_child("kill", path).returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(os.listdir(tmp_path)) == 1
    write_clip(frames, tmp_path / "next.mp4", 8, RECIPE)
    assert os.listdir(tmp_path) == ["next.mp4"]


def test_sweeping_spares_files_of_living_processes(tmp_path):
    (tmp_path / f".clip.mp4.{os.getppid()}.partial").touch()
    (tmp_path / ".notes.partial").touch()
    assert landing.sweep_partials(tmp_path) == 0
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize(
    "code,word",
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "read-only"),
        (errno.EDQUOT, "full"),
        (errno.EIO, "not written"),
    ],
)
def test_disk_errors_become_sentences(frames, tmp_path, monkeypatch, code, word):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(clips, "_encode", fail)
    with pytest.raises(MediaError, match=word):
        write_clip(frames, tmp_path / "clip.mp4", 8, RECIPE)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into read-only folders")
def test_a_read_only_folder_is_reported(frames, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MediaError, match="read-only"):
        write_clip(frames, tmp_path / "clip.mp4", 8, RECIPE)


def test_a_file_that_reads_back_short_is_refused(frames, tmp_path, monkeypatch):
    encode = clips._encode
    monkeypatch.setattr(clips, "_encode", lambda f, *rest: encode(f[:-1], *rest))
    with pytest.raises(MediaError, match="7 of 8"):
        write_clip(frames, tmp_path / "clip.mp4", 8, RECIPE)
    assert not os.listdir(tmp_path)


def test_foreign_files_hold_no_recipe(frames, tmp_path):
    Image.fromarray(frames[0]).save(tmp_path / "plain.png")
    iio.imwrite(tmp_path / "plain.mp4", frames, plugin="pyav", codec="libx264")
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    for name in ("plain.png", "plain.mp4", "broken.mp4", "broken.png", "absent.mp4", "x.txt"):
        with pytest.raises(MediaError, match=name):
            read_recipe(tmp_path / name)
    with pytest.raises(MediaError):
        read_clip(tmp_path / "broken.mp4")


def test_same_frames_give_the_same_file(tmp_path):
    """Also when the memory that is handed out held something else before."""
    y, x = np.mgrid[0:64, 0:64] / 64
    places = np.arange(16)[:, None, None] / 16
    spot = 200 * np.exp(-30 * ((x - places) ** 2 + (y - 0.4) ** 2))
    clip = np.stack([spot, 0.3 * spot + 60 * y, 90 + 0 * spot], -1).astype(np.uint8)
    rng, written = np.random.default_rng(1), set()
    for _ in range(12):
        junk = [np.full(size, rng.integers(256), np.uint8) for size in rng.integers(1e3, 3e5, 60)]
        del junk
        written.add(write_clip(clip, tmp_path / "clip.mp4", 8, RECIPE).read_bytes())
    assert len(written) == 1
