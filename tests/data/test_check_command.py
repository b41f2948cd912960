"""`check` names what is there and what is wrong, goes on, and answers by its exit code."""

import json
import os
import sys

import pytest
from video_files import write_frames, write_sound, write_video

from latte_core import cli


def check(capsys, *arguments):
    code = cli.main(["check", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Two usable clips among everything that people have in folders."""
    root = tmp_path_factory.mktemp("messy")
    write_video(root / "good one.mp4", 50, size=(96, 64))
    write_frames(root / "кадры", 50)
    write_video(root / "short.avi", 45)
    (root / "empty.mp4").touch()
    (root / "text.avi").write_text("no video")
    write_sound(root / "sound.mp4")
    cut = write_video(root / "cut.avi", 100)
    os.truncate(cut, cut.stat().st_size // 2)
    (root / "captions.json").write_text(json.dumps({"good one.mp4": "a thing", "gone": "x"}))
    return root


def test_check_tells_figures_and_names(messy, capsys):
    code, out, _ = check(capsys, messy, "--kind", "folder")
    assert code == 0
    assert "clips     2\n" in out
    assert "frames    100, 2.0 seconds; 50 to 50 a clip, 46 are needed" in out
    assert "64 x 64 (1)" in out and "96 x 64 (1)" in out
    assert "25 (1) frames a second" in out
    assert "captions  1 of 2 clips" in out
    assert "broken, left out: 4" in out
    for words in (
        "empty.mp4: it is empty",
        "text.avi: it cannot be read",
        "sound.mp4: it holds no video, only audio",
        "cut.avi: it is cut off: its header promises 100 frames",
        "short.avi: it has 45 of the 46 frames",
        "gone: captions.json names no clip",
    ):
        assert words in out


def test_check_answers_in_json(messy, capsys):
    code, out, _ = check(capsys, messy, "--json", "--frames", "16", "--stride", "1")
    found = json.loads(out)
    assert code == 0
    assert (found["clips"], found["frames"], found["captioned"]) == (3, 145, 1)
    assert found["hours"] == pytest.approx((50 + 45) / 25 / 3600)  # pictures have no rate
    assert {p["kind"] for p in found["problems"]} == {"broken", "caption"}
    assert found["sizes"] == {"64 x 64": 2, "96 x 64": 1}


def test_nothing_usable_is_exit_code_1(tmp_path, capsys):
    (tmp_path / "empty.mp4").touch()
    code, out, _ = check(capsys, tmp_path)
    assert (code, "clips     0" in out) == (1, True)
    assert json.loads(check(capsys, tmp_path, "--json")[1])["clips"] == 0
    code, out, err = check(capsys, tmp_path / "no")
    assert (code, out) == (1, "") and "does not exist" in err
    assert check(capsys, tmp_path, "--stride", "0")[0] == 2


def test_long_lists_are_cut_unless_asked_for(tmp_path, capsys):
    for number in range(25):
        (tmp_path / f"{number:02}.mp4").touch()
    out = check(capsys, tmp_path)[1]
    assert "19.mp4" in out and "20.mp4" not in out and "and 5 more" in out
    assert "24.mp4" in check(capsys, tmp_path, "--all")[1]


def test_damage_inside_is_found_by_looking_deep(tmp_path, capsys):
    write_frames(tmp_path / "a", 50, name="{}.jpg")
    write_frames(tmp_path / "b", 50, name="{}.jpg")
    (tmp_path / "a" / "30.jpg").write_bytes(b"")
    data = (tmp_path / "b" / "30.jpg").read_bytes()
    (tmp_path / "b" / "30.jpg").write_bytes(data[:-60])  # its header is whole
    code, out, _ = check(capsys, tmp_path)
    assert code == 0 and "a: the picture 30.jpg is empty" in out and "b: " not in out
    code, out, _ = check(capsys, tmp_path, "--deep")
    assert code == 1 and "b: the picture 30.jpg is damaged" in out


def test_classes_are_counted(tmp_path, capsys):
    for name in ("Archery", "YoYo"):
        write_video(tmp_path / name / f"v_{name}_g01_c01.avi", 20)
    write_video(tmp_path / "YoYo" / "v_YoYo_g02_c01.avi", 60)
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Biking\n3 YoYo\n")
    code, out, _ = check(capsys, tmp_path, "--kind", "ucf101", "--split", "all")
    assert code == 0
    assert "classes   2 of 3 have clips, 1 to 2 each" in out
    assert "none of Biking" in out
    assert "squeezed  2 clips are shorter than the window" in out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_name_that_is_no_text_is_shown_with_escapes(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", 50).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    (tmp_path / os.fsdecode(b"\xfe.mp4")).touch()
    code, out, _ = check(capsys, tmp_path)
    assert code == 0 and "\\udcfe.mp4: it is empty" in out
