"""Frames of video files: the right ones, sought, upright, and damage named."""

import os
import re
import struct

import av
import numpy as np
import pytest
from PIL import Image
from video_files import is_mirrored, numbers_of, write_sound, write_video

from latte_core.data import video_file
from latte_core.data.video_file import probe_video
from latte_core.errors import DataError


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.avi", {}),
        ("a.avi", {"b_frames": 2}),
        ("a.mp4", {}),
        ("a.mp4", {"b_frames": 2}),
        ("a.mkv", {"b_frames": 2}),
        ("a.webm", {}),
        ("a.mov", {"rate": 30}),
    ],
)
def test_any_frames_are_the_ones_that_were_written(tmp_path, name, options):
    file = probe_video(write_video(tmp_path / name, 70, **options))
    assert file.length == 70
    assert file.rate == pytest.approx(options.get("rate", 25))
    assert (file.width, file.height) == (64, 64)
    for start in (0, 1, 11, 12, 13, 24, 54):
        wanted = list(range(start, start + 16, 3))
        assert numbers_of(file.read(wanted, 64)) == wanted
    assert numbers_of(file.read([69], 64)) == [69]
    assert numbers_of(file.read(range(70), 64)) == list(range(70))


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_far_window_decodes_from_its_key_frame_only(tmp_path, name, monkeypatch):
    file = probe_video(write_video(tmp_path / name, 300))
    decoded = []
    plain = video_file.timed_frames

    def counting(*given):
        for moment in plain(*given):
            decoded.append(moment)
            yield moment

    monkeypatch.setattr(video_file, "timed_frames", counting)
    assert numbers_of(file.read([250, 253, 256], 64)) == [250, 253, 256]
    assert 7 <= len(decoded) <= 7 + 2 * 12 + 1  # the window, a group of 12 before it, one to look
    decoded.clear()
    file.read([0, 299], 64)  # control: the whole file is counted as such
    assert len(decoded) == 300


def test_far_window_needs_no_byte_of_the_start(tmp_path):
    path = write_video(tmp_path / "a.avi", 300)
    file = probe_video(path)
    data = bytearray(path.read_bytes())
    begin, end = data.index(b"movi") + 4, data.rindex(b"idx1")
    begin, middle = begin + (end - begin) // 8, begin + (end - begin) // 2
    data[begin:middle] = bytes(middle - begin)
    path.write_bytes(data)
    assert numbers_of(file.read([250, 253], 64)) == [250, 253]
    with pytest.raises((DataError, AssertionError)):  # control: those frames are really gone
        numbers_of(file.read([90, 93], 64))


def test_varying_rate_is_read_on_an_even_grid(tmp_path):
    # 20 frames at 25 a second, then 20 at 5 a second: 4.8 s in all.
    ticks = [40 * n for n in range(20)] + [800 + 200 * n for n in range(20)]
    file = probe_video(write_video(tmp_path / "a.mp4", 40, ticks=ticks, codec="libx264"))
    step_ms = 1000 / file.rate
    for number in range(file.length):
        time = number * step_ms + step_ms / 2
        shown = max(n for n, tick in enumerate(ticks) if tick <= time)
        assert numbers_of(file.read([number], 64)) == [shown]
    assert file.length == pytest.approx(4.6 / (step_ms / 1000) + 1, abs=1)


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (101, 77), (33, 65)])
def test_middle_square_of_any_size_is_shown(tmp_path, size):
    codec = "libx264"
    file = probe_video(write_video(tmp_path / "a.mkv", 20, size=size, codec=codec))
    assert (file.width, file.height) == size
    frames = file.read([0, 7, 19], 48)
    assert frames.shape == (3, 48, 48, 3)
    assert frames.dtype == np.uint8
    assert numbers_of(frames) == [0, 7, 19]


def test_wide_pixels_are_shown_wide(tmp_path):
    plain = write_video(tmp_path / "plain.mp4", 5, size=(64, 64))
    wide = write_video(tmp_path / "wide.mp4", 5, size=(64, 64), pixel_aspect=2)
    square, shown = (probe_video(path).read([3], 64)[0] for path in (plain, wide))
    # 128 x 64 on the screen: the middle half of what is stored, pulled to the square.
    middle = Image.fromarray(square[:, 16:48]).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(shown.astype(int) - np.asarray(middle)).mean() < 6
    assert np.abs(shown.astype(int) - square).mean() > 20


def turn(path, matrix):
    """Write a matrix into the track header of an mp4: the 36 bytes before width and height."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: flags, times, number, duration, layer, volume
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)


ONE = 1 << 16
# The matrices that phones write for a picture to be turned clockwise by so many degrees.
TURNS = {
    90: (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
    180: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    270: (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_video_is_set_upright(tmp_path, degrees):
    plain = probe_video(write_video(tmp_path / "plain.mp4", 5, size=(96, 64)))
    path = write_video(tmp_path / "turned.mp4", 5, size=(96, 64))
    turn(path, TURNS[degrees])
    file = probe_video(path)
    assert (file.width, file.height) == ((64, 96) if degrees % 180 else (96, 64))
    upright = np.rot90(plain.read([3], 64)[0], -degrees // 90)
    assert np.abs(file.read([3], 64)[0].astype(int) - upright).mean() < 2
    assert np.abs(file.read([3], 64)[0].astype(int) - plain.read([3], 64)[0]).mean() > 20


@pytest.mark.parametrize(
    "name", ["ein Frühling im Wald.mp4", "кот и пёс.avi", "take 2:1.mp4", "100%03d.mp4", "-a.mp4"]
)
def test_any_name_is_a_name(tmp_path, name, monkeypatch):
    write_video(tmp_path / "plain.avi", 5).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    file = probe_video(tmp_path.__class__(name))
    assert numbers_of(file.read([4], 64)) == [4]


def test_unusable_files_say_why(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    write_sound(tmp_path / "sound.mp4")
    for name, words in [
        ("empty.mp4", "empty"),
        ("text.mp4", "cannot be read"),
        ("sound.mp4", "no video, only audio"),
        ("absent.mp4", "cannot be read"),
    ]:
        with pytest.raises(DataError, match=words):
            probe_video(tmp_path / name)


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "front.mp4", "a.mkv"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_file_that_is_cut_off_is_refused(tmp_path, name, share):
    path = write_video(tmp_path / name, 120)
    if name == "front.mp4":  # its index is at the front and promises all frames
        with (
            av.open(str(path)) as old,
            av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "+faststart"}) as new,
        ):
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
        path = tmp_path / "b.mp4"
    assert probe_video(path).length == 120
    os.truncate(path, int(path.stat().st_size * share))
    try:
        file = probe_video(path)
    except DataError as error:
        assert re.search(r"cut off|cannot be read|no frame", str(error))
    else:  # only where the index behind the frames was hit, and no frame or two are lost
        assert share == 0.9 and file.length >= 118
        assert numbers_of(file.read([file.length - 1], 64)) == [file.length - 1]


def test_file_that_is_damaged_later_is_named_when_read(tmp_path):
    path = write_video(tmp_path / "a.avi", 120)
    file = probe_video(path)
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(DataError, match=r"ends before frame|cannot be read"):
        file.read([100, 103], 64)


def test_playlist_in_disguise_is_not_followed(tmp_path):
    write_video(tmp_path / "real.ts", 30, codec="mpeg2video")
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:1.2,", "http://127.0.0.1:9/a.ts"]
    (tmp_path / "list.mp4").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    with pytest.raises(DataError):
        probe_video(tmp_path / "list.mp4")


def test_frames_are_not_mirrored_by_themselves(tmp_path):
    file = probe_video(write_video(tmp_path / "a.avi", 3))
    assert not any(is_mirrored(frame) for frame in file.read([0, 1, 2], 64))
