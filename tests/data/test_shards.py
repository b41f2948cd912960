"""Shards of latents: the same windows as the videos, resumable, verified, light to read."""

import itertools
import json
import subprocess
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import webdataset
from video_files import write_frames, write_video

from latte_core.data.draws import draw_joint
from latte_core.data.latent_set import open_shards
from latte_core.data.shards import Encoders, Part, write_shards
from latte_core.data.video_set import VideoSource, open_source
from latte_core.errors import ConfigError, DataError


def shrink(frames):
    """A stand-in for a VAE that can be computed by hand: (F, 64, 64, 3) -> (F, 3, 8, 8)."""
    return frames[:, 4::8, 4::8].transpose(0, 3, 1, 2) / 127.5 - 1


def embed(text):
    """Row i of a caption's embedding holds its word's length, in 5 channels."""
    return np.array([[len(word)] * 5 for word in text.split()] + [[0.5] * 5])


ENCODERS = Encoders(shrink, embed, np.array([[0.5] * 5, [0.25] * 5]), "model 1")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    write_video(root / "a b.v1.mp4", 50)
    write_video(root / "ü.avi", 70)
    write_frames(root / "c", 48)
    captions = {"a b.v1.mp4": ["one two", "three"], "c": "a much longer caption"}
    (root / "captions.json").write_text(json.dumps(captions))
    return open_source(VideoSource("folder", root, size=64, flip=0.5))


@pytest.fixture(scope="module")
def written(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "cache"
    assert write_shards(videos, ENCODERS, folder, shard_frames=60) == 2
    return folder


def rng(seed=0):
    return np.random.default_rng(seed)


def test_shards_give_the_windows_that_the_videos_give(videos, written):
    latents = open_shards(written, verify=True)
    assert len(latents) == 3 and latents.latent_shape == (3, 8, 8)
    assert latents.model == "model 1"
    for index, seed in itertools.product(range(3), range(6)):
        for read in ("read_clip", "read_image"):
            clip = getattr(videos, read)(index, rng(seed))
            cached = getattr(latents, read)(index, rng(seed))
            expected = shrink(clip.frames).astype(np.float16).swapaxes(0, 1)
            assert cached.latents.dtype == np.float16
            assert np.array_equal(cached.latents, expected)
            assert (cached.key, cached.caption, cached.label) == (clip.key, clip.caption, None)
    joint = draw_joint(latents, 3, 4, 2)
    clip, images = draw_joint(videos, 3, 4, 2)
    assert [joint[0].key, *(i.key for i in joint[1])] == [clip.key, *(i.key for i in images)]


def test_captions_come_with_their_own_embeddings(written):
    latents = open_shards(written)
    seen = set()
    for seed in range(10):
        clip = latents.read_clip(0, rng(seed))
        assert np.array_equal(clip.prompt_embeds, embed(clip.caption).astype(np.float16))
        seen.add(clip.caption)
    assert seen == {"one two", "three"}
    plain = latents.read_clip(2, rng())
    assert (plain.caption, plain.prompt_embeds) == (None, None)
    assert np.array_equal(latents.null_prompt(4)[:, 0], [0.5, 0.25, 0.25, 0.25])


def test_webdataset_reads_the_shards(written):
    urls = [str(path) for path in sorted(written.glob("*.tar"))]
    rows = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [row["json"]["key"] for row in rows] == ["a b.v1.mp4", "c", "ü.avi"]
    assert [row["__key__"] for row in rows] == ["000000000", "000000001", "000000002"]
    latents = open_shards(written, num_frames=50, stride=1, flip=0)
    first = latents.read_clip(0, rng()).latents
    assert np.array_equal(rows[0]["latents.npy"].swapaxes(0, 1), first)
    assert rows[0]["flipped.npy"].shape == (50, 3, 8, 8)
    assert rows[0]["prompts.npy"].shape == (5, 5)


def test_reading_needs_no_network_library(written):
    code = (
        "import sys, numpy as np\n"
        "from latte_core.data.latent_set import open_shards\n"
        "from latte_core.data.draws import draw_joint\n"
        f"latents = open_shards({str(written)!r}, verify=True)\n"
        "clip, images = draw_joint(latents, 0, 0, 2)\n"
        "assert clip.latents.shape == (3, 16, 8, 8) and len(images) == 2\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'av', 'PIL'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_the_window_is_read(written, monkeypatch):
    latents = open_shards(written)
    sample = latents.samples[1]
    data = bytearray(sample.shard.read_bytes())
    clip = latents.read_clip(1, rng(2))
    start = int(latents.source.windowing.draw(sample.length, 16, 3, rng(2))[0])
    row = 3 * 8 * 8 * 2
    for name in ("latents.npy", "flipped.npy"):
        first = sample.offsets[name] + 128
        for number in range(sample.length):
            if number not in range(start, start + 46, 3):
                data[first + number * row : first + (number + 1) * row] = b"\xff" * row
    original = sample.shard.read_bytes()
    try:
        sample.shard.write_bytes(data)
        assert np.array_equal(latents.read_clip(1, rng(2)).latents, clip.latents)
    finally:
        sample.shard.write_bytes(original)


class Killed(Exception):  # noqa: N818 - a signal, not a fault
    """Stands for a process that ends in the middle."""


def test_killed_run_goes_on_and_ends_with_the_same_bytes(videos, written, tmp_path):
    folder, calls = tmp_path / "cache", []

    def dying(frames):
        calls.append(len(frames))
        if len(calls) > 7:  # the first shard takes 8 calls: 98 frames in chunks of 32, and mirrored
            raise Killed
        return shrink(frames)

    with pytest.raises(Killed):
        write_shards(videos, replace(ENCODERS, frames=dying), folder, shard_frames=60)
    with pytest.raises(DataError, match="missing or damaged"):
        open_shards(folder)
    (folder / ".shard-00001.tar.partial").write_bytes(b"what a kill leaves behind")
    seen = []

    def report(done, total):
        seen.append((done, total))

    write_shards(videos, ENCODERS, folder, shard_frames=60, on_progress=report)
    assert seen[-1] == (168, 168)
    names = sorted(path.name for path in written.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all((folder / n).read_bytes() == (written / n).read_bytes() for n in names)
    assert write_shards(videos, ENCODERS, folder, shard_frames=60) == 0  # nothing left to do


def test_damaged_or_missing_shard_is_found_and_written_again(videos, written, tmp_path):
    folder = tmp_path / "cache"
    write_shards(videos, ENCODERS, folder, shard_frames=60)
    shard = folder / "shard-00001.tar"
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    assert len(open_shards(folder)) == 3  # the size is right
    with pytest.raises(DataError, match=r"1 of 2 shards .*shard-00001.tar"):
        open_shards(folder, verify=True)
    assert write_shards(videos, ENCODERS, folder, shard_frames=60) == 1
    assert shard.read_bytes() == (written / shard.name).read_bytes()
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00001\.tar"):
        open_shards(folder)
    (folder / "set.json").unlink()
    with pytest.raises(DataError, match="holds no shards"):
        open_shards(folder)


def test_parts_share_the_work(videos, written, tmp_path):
    folder = tmp_path / "cache"
    assert write_shards(videos, ENCODERS, folder, shard_frames=60, part=Part(2, 2)) == 1
    with pytest.raises(DataError, match=r"1 of 2 shards"):
        open_shards(folder)
    assert write_shards(videos, ENCODERS, folder, shard_frames=60, part=Part(1, 2)) == 1
    for path in written.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(ConfigError, match="part 3 of 2"):
        Part(3, 2)


def test_shards_of_something_else_are_not_mixed(videos, written):
    for other, encoders, words in [
        (videos, replace(ENCODERS, name="model 2"), "model"),
        (replace(videos, items=videos.items[:2]), ENCODERS, "clips"),
        (replace(videos, source=replace(videos.source, flip=0)), ENCODERS, "flipped"),
        (replace(videos, source=replace(videos.source, size=32)), ENCODERS, "size"),
    ]:
        with pytest.raises(DataError, match=f"differ in .*{words}"):
            write_shards(other, encoders, written, shard_frames=60)


def test_clip_that_breaks_is_left_out_by_name(tmp_path, caplog):
    for name in "ab":
        write_frames(tmp_path / "clips" / name, 50)
    videos = open_source(VideoSource("folder", tmp_path / "clips", size=64))
    (tmp_path / "clips" / "a" / "frame_40.png").write_bytes(b"")
    write_shards(videos, replace(ENCODERS, text=None, null=None), tmp_path / "cache")
    latents = open_shards(tmp_path / "cache")
    assert [latents.key(n) for n in range(len(latents))] == ["b"]
    assert [p.key for p in latents.problems] == ["a"]
    assert "frame_40.png" in caplog.text and latents.null_prompt(3) is None
    with pytest.raises(ConfigError, match="no mirrored clips"):
        open_shards(tmp_path / "cache", flip=0.5)
    with pytest.raises(DataError, match="at least 91 frames"):
        open_shards(tmp_path / "cache", num_frames=16, stride=6)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (lambda f: shrink(f) * np.nan, "NaN"),
        (lambda f: shrink(f) * 1e6, "too large"),
        (lambda f: shrink(f)[:1], "F, C, h, w"),
        (lambda f: shrink(f)[0], "F, C, h, w"),
    ],
)
def test_latents_that_cannot_be_right_are_not_stored(videos, tmp_path, frames, words, caplog):
    try:
        write_shards(videos, replace(ENCODERS, frames=frames), tmp_path / "cache")
        open_shards(tmp_path / "cache")
    except (DataError, ConfigError) as error:
        assert words in str(error) + caplog.text
    else:
        pytest.fail("latents that are wrong were stored")


def test_tar_members_are_plain(written):
    with tarfile.open(written / "shard-00000.tar") as tar:
        assert {(m.mtime, m.uid, m.uname) for m in tar} == {(0, 0, "")}
