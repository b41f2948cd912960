"""The published data sets in the forms that they are published in: clips, splits, labels."""

import shutil

import numpy as np
import pytest
from video_files import is_mirrored, numbers_of, write_frames, write_video

from latte_core.data.draws import draw_joint
from latte_core.data.video_set import VideoSource, open_source, survey_source
from latte_core.errors import DataError

CLASSES = ("ApplyEyeMakeup", "HandstandPushups", "JumpRope", "YoYo")


def rng(seed=0):
    return np.random.default_rng(seed)


def keys(videos):
    return [videos.key(n) for n in range(len(videos))]


@pytest.fixture(scope="module")
def ucf(tmp_path_factory):
    """UCF101 with two of four classes, 29 and 60 frames, and the official lists beside them."""
    root = tmp_path_factory.mktemp("ucf")
    videos, lists = root / "UCF-101", root / "ucfTrainTestlist"
    lists.mkdir()
    short = write_video(root / "short.avi", 29, size=(80, 60))
    long = write_video(root / "long.avi", 60, size=(80, 60))
    for name in ("HandstandPushups", "YoYo"):
        (videos / name).mkdir(parents=True)
        stem = f"v_{name.replace('stand', 'Stand')}"  # as it is published
        shutil.copy(short, videos / name / f"{stem}_g01_c01.avi")
        shutil.copy(long, videos / name / f"{stem}_g08_c01.avi")
    short.unlink()
    long.unlink()
    rows = [f"{number} {name}" for number, name in enumerate(CLASSES, start=1)]
    (lists / "classInd.txt").write_text("\r\n".join(rows) + "\r\n")
    (lists / "trainlist01.txt").write_text(
        "HandstandPushups/v_HandStandPushups_g08_c01.avi 2\n"
        "YoYo/v_YoYo_g08_c01.avi 4\n"
        "YoYo/v_YoYo_g09_c01.avi 4\n"
    )
    (lists / "testlist01.txt").write_text(
        "HandstandPushups/v_HandStandPushups_g01_c01.avi\nYoYo/v_YoYo_g01_c01.avi\n"
    )
    return root


def test_ucf101_splits_are_the_official_ones(ucf):
    train = open_source(VideoSource("ucf101", ucf, size=60))
    assert keys(train) == [
        "UCF-101/HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "UCF-101/YoYo/v_YoYo_g08_c01.avi",
    ]
    assert [(p.key, p.kind) for p in train.problems] == [("YoYo/v_YoYo_g09_c01.avi", "missing")]
    test = open_source(VideoSource("ucf101", ucf, split="test", size=60))
    assert [key.rpartition("_g")[2] for key in keys(test)] == ["01_c01.avi"] * 2
    assert len(open_source(VideoSource("ucf101", ucf, split="all"))) == 4


def test_ucf101_labels_keep_their_numbers_in_a_partial_copy(ucf):
    videos = open_source(VideoSource("ucf101", ucf, size=60))
    assert videos.classes == CLASSES
    assert [videos.label(n) for n in range(2)] == [1, 3]
    assert videos.read_clip(1, rng()).label == 3
    assert videos.read_image(1, rng()).label == 3


def test_ucf101_images_of_other_clips_bring_their_own_labels(ucf):
    videos = open_source(VideoSource("ucf101", ucf, split="all", size=60))
    clip, images = draw_joint(videos, 0, 0, 3)
    labels = {videos.key(n): videos.label(n) for n in range(4)}
    assert len({image.key for image in images} | {clip.key}) == 4
    assert all(image.label == labels[image.key] for image in (clip, *images))
    assert all(image.frames.shape == (1, 60, 60, 3) for image in images)


def test_ucf101_frames_are_spread_as_published_and_short_clips_used_whole(ucf):
    videos = open_source(VideoSource("ucf101", ucf, split="all", size=60, flip=0))
    short, long = (videos.read_clip(n, rng()) for n in (0, 1))
    wanted = [0, 3, 6, 9, 12, 15, 18, 21, 25, 28, 31, 34, 37, 40, 43, 47]
    numbers = numbers_of(long.frames)
    assert [n - numbers[0] for n in numbers] == wanted
    assert (numbers_of(short.frames)[0], numbers_of(short.frames)[-1]) == (0, 28)
    assert len(set(numbers_of(short.frames))) == 16


def test_ucf101_without_its_lists(ucf, tmp_path):
    shutil.copytree(ucf / "UCF-101", tmp_path / "videos")
    with pytest.raises(DataError, match=r"trainlist01.txt is not in .*split all"):
        open_source(VideoSource("ucf101", tmp_path))
    videos = open_source(VideoSource("ucf101", tmp_path, split="all"))
    assert videos.classes == ("HandstandPushups", "YoYo")
    assert "2 of 101 classes" in videos.notes[0]
    with pytest.raises(DataError, match="no class folders"):
        open_source(VideoSource("ucf101", tmp_path / "videos" / "YoYo"))


def test_ucf101_class_list_that_is_damaged_is_refused(ucf, tmp_path):
    shutil.copytree(ucf, tmp_path / "ucf")
    (tmp_path / "ucf" / "ucfTrainTestlist" / "classInd.txt").write_text("1 A\n3 B\n")
    with pytest.raises(DataError, match=r"classInd.txt is damaged"):
        open_source(VideoSource("ucf101", tmp_path / "ucf"))


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """SkyTimelapse: frame folders two levels below each split, named as published."""
    root = tmp_path_factory.mktemp("sky_timelapse")
    clips = root / "sky_train" / "07U1fSrk9oI"
    write_frames(clips / "07U1fSrk9oI_1", 60, size=(80, 45), name="07U1fSrk9oI_frames_{:08}.jpg")
    write_frames(clips / "07U1fSrk9oI_2", 48, size=(80, 45), name="07U1fSrk9oI_frames_{:08}.jpg")
    write_frames(root / "sky_test" / "x" / "x_1", 49, size=(80, 45), name="x_frames_{}.jpg")
    return root


def test_skytimelapse_takes_folders_of_more_than_48_frames(sky):
    videos = open_source(VideoSource("skytimelapse", sky, size=45))
    assert keys(videos) == ["sky_train/07U1fSrk9oI/07U1fSrk9oI_1"]
    (problem,) = videos.problems
    assert (problem.kind, problem.reason) == (
        "short",
        "it has 48 of the 49 frames that are needed",
    )
    for seed in range(8):
        clip = videos.read_clip(0, rng(seed))
        numbers = numbers_of(clip.frames)
        assert list(np.diff(numbers)) == [3] * 15
        assert numbers[0] <= 60 - 48 - 1
        assert not any(is_mirrored(frame) for frame in clip.frames)  # no flip in this set
    assert keys(open_source(VideoSource("skytimelapse", sky, split="test"))) == ["sky_test/x/x_1"]
    assert len(open_source(VideoSource("skytimelapse", sky, split="all"))) == 2


def test_frames_follow_their_trailing_number(sky):
    videos = open_source(VideoSource("skytimelapse", sky, split="test", size=45))
    assert videos.items[0].file.names[:11] == tuple(f"x_frames_{n}.jpg" for n in range(11))
    assert numbers_of(videos.read_frames(0, np.arange(49))) == list(range(49))


def test_split_itself_may_be_the_root(sky):
    videos = open_source(VideoSource("skytimelapse", sky / "sky_train", size=45))
    assert keys(videos) == ["07U1fSrk9oI/07U1fSrk9oI_1"]
    assert "no split folders" in videos.notes[0]


def test_split_that_is_not_there_is_an_error(tmp_path):
    write_frames(tmp_path / "train" / "a", 50)
    with pytest.raises(DataError, match="no folder for the split 'test', only train"):
        open_source(VideoSource("taichi-hd", tmp_path, split="test"))


def test_taichi_reads_frame_folders_and_mp4(tmp_path):
    write_frames(tmp_path / "train" / "vox#001", 60, name="{:07}.png")
    write_frames(tmp_path / "train" / "vox#002", 45, name="{:07}.png")  # the original crashed here
    write_video(tmp_path / "train" / "vox#003.mp4", 52)
    videos = open_source(VideoSource("taichi-hd", tmp_path, size=64))
    assert keys(videos) == ["train/vox#001", "train/vox#003.mp4"]
    assert [(p.key, p.kind) for p in videos.problems] == [("train/vox#002", "short")]
    seen = set()
    for seed in range(12):
        clip = videos.read_clip(0, rng(seed))
        numbers = numbers_of(clip.frames)
        assert list(np.diff(numbers)) == [3] * 15
        assert len({is_mirrored(frame) for frame in clip.frames}) == 1  # a clip, not its frames
        seen.add(is_mirrored(clip.frames[0]))
    assert seen == {False, True}


def test_pictures_of_the_right_size_are_left_as_they_are(tmp_path):
    from PIL import Image

    folder = write_frames(tmp_path / "a", 50, name="{}.png")
    videos = open_source(VideoSource("taichi-hd", tmp_path, size=64, flip=0))
    written = np.stack([np.asarray(Image.open(folder / f"{n}.png")) for n in (0, 9)])
    assert np.array_equal(videos.read_frames(0, np.array([0, 9])), written)


def test_faceforensics_walks_videos_and_frame_folders(tmp_path):
    write_video(tmp_path / "train" / "original" / "033.avi", 60)
    write_video(tmp_path / "train" / "original" / "deep" / "034.mp4", 20)
    write_frames(tmp_path / "train" / "original" / "035", 50, name="{}.jpg")
    write_video(tmp_path / "test" / "999.mp4", 60)
    (tmp_path / "train" / "original" / "036.avi").write_bytes(b"RIFF")
    videos = open_source(VideoSource("faceforensics", tmp_path, size=64))
    assert [key.removeprefix("train/original/") for key in keys(videos)] == [
        "033.avi",
        "035",
        "deep/034.mp4",
    ]
    assert [p.kind for p in videos.problems] == ["broken"]
    assert videos.classes == ()
    assert videos.read_clip(0, rng()).label is None
    assert videos.source.mirrored == 0.5


def test_links_to_clips_and_folders_are_followed(tmp_path):
    store, root = tmp_path / "store", tmp_path / "root"
    write_video(store / "one.mp4", 50)
    write_frames(store / "frames", 50)
    root.mkdir()
    (root / "a.mp4").symlink_to(store / "one.mp4")
    (root / "b").symlink_to(store / "frames")
    (root / "again").symlink_to(root)
    videos = open_source(VideoSource("folder", root, size=64))
    assert keys(videos) == ["a.mp4", "b"]
    assert numbers_of(videos.read_frames(1, np.array([49]))) == [49]


def test_frame_that_is_damaged_is_named_when_it_is_read(tmp_path):
    folder = write_frames(tmp_path / "a", 50, name="{}.jpg")
    data = (folder / "7.jpg").read_bytes()
    (folder / "7.jpg").write_bytes(data[: len(data) // 2])
    (folder / "8.jpg").write_bytes(b"")
    (folder / "9.jpg").write_text("no picture")
    videos = survey_source(VideoSource("folder", tmp_path, size=64))
    for number in (7, 8, 9):
        with pytest.raises(DataError, match=rf"a: the picture {number}\.jpg"):
            videos.read_frames(0, np.array([number]))
    assert len(videos.read_frames(0, np.array([6]))) == 1
