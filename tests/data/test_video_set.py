"""A folder of videos as a set of clips: windows, mirroring, captions, problems by name."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from video_files import is_mirrored, numbers_of, write_frames, write_sound, write_video

from latte_core.data.draws import clip_index, draw_clip, draw_joint
from latte_core.data.video_set import VideoSource, open_source, survey_source
from latte_core.data.windows import WINDOWINGS
from latte_core.errors import ConfigError, DataError


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder with three clips, one of them a folder of frames, and files that are no clips."""
    root = tmp_path_factory.mktemp("plain")
    write_video(root / "a.mp4", 60)
    write_video(root / "tief im Wald" / "b ü.avi", 80, size=(80, 64))
    write_frames(root / "c", 50, name="shot2_{}.png")
    write_video(root / "short.mp4", 10)
    write_sound(root / "sound.mp4")
    (root / "empty.mp4").touch()
    (root / "notes.md").write_text("no clip")
    (root / ".hidden.mp4").write_text("no clip")
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    (root / "round.mp4").symlink_to(root / "round.mp4")
    (root / "tief im Wald" / "loop").symlink_to(root)
    (root / "a.txt").write_text("a moon\n  rises", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def videos(plain):
    return open_source(VideoSource("folder", plain, size=64))


def test_usable_clips_are_found_and_the_others_named(videos):
    assert [videos.key(n) for n in range(len(videos))] == ["a.mp4", "c", "tief im Wald/b ü.avi"]
    assert videos.classes == ()
    reasons = {p.key: (p.kind, p.reason) for p in videos.problems}
    assert reasons["short.mp4"] == ("short", "it has 10 of the 46 frames that are needed")
    assert reasons["sound.mp4"][1] == "it holds no video, only audio"
    assert reasons["empty.mp4"][1] == "it is empty (0 bytes)"
    assert reasons["gone.mp4"][1] == reasons["round.mp4"][1] == "the link leads nowhere"
    assert len(reasons) == 5


def test_clip_is_sixteen_frames_three_apart(videos):
    for index in range(3):
        clip = videos.read_clip(index, rng(index))
        assert clip.frames.shape == (16, 64, 64, 3)
        numbers = numbers_of(clip.frames)
        assert set(np.diff(numbers)) == {3}
        assert clip.label is None
    assert videos.read_clip(0, rng()).caption == "a moon rises"
    assert videos.read_clip(1, rng()).caption is None
    assert videos.read_clip(1, rng()).key == "c"


def test_windows_start_everywhere(videos):
    starts = {numbers_of(videos.read_clip(1, rng(seed)).frames[:1])[0] for seed in range(60)}
    assert starts == set(range(5))  # 50 frames, the window spans 46


def test_image_is_one_frame_from_anywhere(videos):
    drawn = [videos.read_image(1, rng(seed)) for seed in range(80)]
    assert drawn[0].frames.shape == (1, 64, 64, 3)
    numbers = {numbers_of(image.frames)[0] for image in drawn}
    assert min(numbers) < 5 and max(numbers) > 44 and len(numbers) > 30


def test_mirroring_happens_as_often_as_said(plain):
    always, never = (open_source(VideoSource("folder", plain, size=64, flip=f)) for f in (1, 0))
    clip, plain_clip = always.read_clip(0, rng(5)), never.read_clip(0, rng(5))
    assert all(is_mirrored(frame) for frame in clip.frames)
    assert np.array_equal(clip.frames[:, :, ::-1], plain_clip.frames)
    assert not is_mirrored(always.read_image(0, rng(5)).frames[0])


def test_clip_depends_on_its_generator_only(videos):
    copy = pickle.loads(pickle.dumps(videos))
    one, other = videos.read_clip(2, rng(3)), copy.read_clip(2, rng(3))
    assert np.array_equal(one.frames, other.frames)
    assert not np.array_equal(one.frames, videos.read_clip(2, rng(4)).frames)


def test_epochs_are_permutations():
    for epoch in range(3):
        order = [clip_index(10, 7, 10 * epoch + n) for n in range(10)]
        assert sorted(order) == list(range(10))
    assert [clip_index(10, 7, n) for n in range(20)] == [clip_index(10, 7, n) for n in range(20)]
    orders = [[clip_index(10, s, 10 * e + n) for n in range(10)] for s in (0, 1) for e in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_joint_draw_takes_images_of_other_clips(videos):
    for number in range(6):
        clip, images = draw_joint(videos, 1, number, 2)
        assert clip.key == videos.key(clip_index(3, 1, number))
        assert len(images) == 2
        assert {image.key for image in images} == {videos.key(n) for n in range(3)} - {clip.key}
        assert np.array_equal(draw_clip(videos, 1, number).frames, clip.frames)
    again = draw_joint(videos, 1, 5, 2)
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(images, again[1], strict=True))
    assert len(draw_joint(videos, 1, 0, 5)[1]) == 5  # more images than clips
    assert draw_joint(videos, 1, 0, 0)[1] == []


def fingerprint(videos, number):
    clip, images = draw_joint(videos, 9, number, 2)
    return [(one.key, one.frames.tobytes()) for one in (clip, *images)]


def test_other_processes_draw_the_same_in_any_order(videos):
    here = {number: fingerprint(videos, number) for number in range(4)}
    asked = [3, 1, 2, 0, 3]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        there = list(pool.map(fingerprint, [videos] * 5, asked))
    assert there == [here[number] for number in asked]
    assert len({str(one) for one in here.values()}) == 4  # control: the draws do differ


def test_file_that_breaks_while_training_is_passed_over_aloud(tmp_path, caplog):
    for name in "abc":
        write_video(tmp_path / f"{name}.avi", 50)
    videos = open_source(VideoSource("folder", tmp_path, size=64))
    (tmp_path / "b.avi").write_bytes(b"")
    drawn = [draw_clip(videos, 0, number).key for number in range(3)]
    assert len(drawn) == 3 and "b.avi" not in drawn
    assert "b.avi" in caplog.text
    for name in "ac":
        (tmp_path / f"{name}.avi").unlink()
    with pytest.raises(DataError, match="in a row"):
        draw_clip(videos, 0, 0)


def test_folder_without_a_usable_clip_is_an_error_that_says_why(tmp_path):
    write_video(tmp_path / "short.mp4", 10)
    with pytest.raises(DataError, match=r"short.mp4: it has 10 of the 46"):
        open_source(VideoSource("folder", tmp_path))
    assert len(survey_source(VideoSource("folder", tmp_path))) == 0
    with pytest.raises(DataError, match="does not exist"):
        open_source(VideoSource("folder", tmp_path / "no"))
    with pytest.raises(DataError, match="is a file"):
        open_source(VideoSource("folder", tmp_path / "short.mp4"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "imagenet"}, "kind is 'imagenet'"),
        ({"split": "val"}, "split is 'val'"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"stride": 1.5}, "stride is 1.5"),
        ({"size": True}, "size is True"),
        ({"split_list": 4}, "split_list is 4"),
        ({"flip": float("nan")}, "flip is nan"),
    ],
)
def test_wrong_sources_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        VideoSource(**{"kind": "folder", "root": ".", **change})


def test_spread_frames_are_the_published_ones():
    ucf = WINDOWINGS["ucf101"]
    # Facts about the original loader: 0, 3, .., 21, 25, .., 43, 47.
    wanted = [0, 3, 6, 9, 12, 15, 18, 21, 25, 28, 31, 34, 37, 40, 43, 47]
    assert list(ucf.frames(200, 0, 16, 3)) == wanted
    assert list(ucf.frames(29, 0, 16, 3))[-1] == 28  # UCF101's shortest clip is used whole
    assert (ucf.needed(16, 3), ucf.last_start(200, 16, 3), ucf.last_start(29, 16, 3)) == (
        16,
        151,
        0,
    )


def test_strided_frames_are_always_as_many_as_asked_for():
    sky, taichi = WINDOWINGS["skytimelapse"], WINDOWINGS["taichi-hd"]
    assert list(sky.frames(60, 5, 16, 3)) == list(range(5, 53, 3))
    assert (sky.needed(16, 3), taichi.needed(16, 3)) == (49, 46)
    for length in range(46, 60):  # the original ran out of frames below 48
        last = taichi.frames(length, taichi.last_start(length, 16, 3), 16, 3)
        assert len(last) == 16 and last[-1] < length
