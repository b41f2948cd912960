"""Captions in every form: beside the file, JSON, JSONL, CSV."""

import csv
import json
from pathlib import Path

import pytest

from latte_core.data.caption_files import read_captions
from latte_core.data.walk import Candidate
from latte_core.errors import DataError

KEYS = ("a.mp4", "deep/b c.mp4", "deep/ü.avi", "frames", "other/a.mp4")


@pytest.fixture
def root(tmp_path):
    for key in KEYS:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path


def captions_of(root, table=None):
    clips = [Candidate(key, root / key, ("0.png",) if key == "frames" else ()) for key in KEYS]
    return read_captions(clips, root, table)


def test_text_beside_the_file(root):
    (root / "a.txt").write_text("a red car\nturns left\n")
    (root / "deep" / "ü.txt").write_text("\ufeffКот спит", encoding="utf-8")
    (root / "frames.txt").write_text("a storm")
    (root / "deep" / "b c.txt").write_text("  \n")
    captions, problems = captions_of(root)
    assert captions == {
        "a.mp4": ("a red car turns left",),
        "deep/ü.avi": ("Кот спит",),
        "frames": ("a storm",),
    }
    assert not problems


def test_text_that_is_not_utf_8_is_named(root):
    (root / "a.txt").write_bytes("grün".encode("latin-1"))
    captions, (problem,) = captions_of(root)
    assert not captions
    assert problem.key == "a.mp4" and "a.txt is not UTF-8" in problem.reason


WANTED = {"a.mp4": ("one",), "deep/b c.mp4": ("two, with comma",), "deep/ü.avi": ("three",)}
RECORDS = [
    {"file_name": "a.mp4", "text": "one"},
    {"file_name": "./deep/b c", "text": "two, with comma"},
    {"file_name": "ü.avi", "text": " three "},
]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        (
            "captions.json",
            lambda p: p.write_text(json.dumps({r["file_name"]: r["text"] for r in RECORDS})),
        ),
        ("captions.json", lambda p: p.write_text(json.dumps(RECORDS))),
        (
            "captions.json",
            lambda p: p.write_text(
                json.dumps({r["file_name"]: {"caption": [r["text"]]} for r in RECORDS})
            ),
        ),
        ("metadata.jsonl", lambda p: p.write_text("\n".join(map(json.dumps, RECORDS)) + "\n\n")),
        ("anything.csv", lambda p: write_csv(p, ("file_name", "text"))),
        ("metadata.csv", lambda p: write_csv(p, ("video", "caption"))),
    ],
)
def test_tables(root, name, write):
    write(root / name)
    assert captions_of(root) == (WANTED, [])


def by_name(form):
    return {record["file_name"]: form(record["text"]) for record in RECORDS}


def write_csv(path: Path, columns):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(record.values() for record in RECORDS)


def test_several_captions_of_a_clip_and_text_before_table(root):
    rows = {"deep/b c.mp4": ["x", "y", ""], "a.mp4": "of the table", "frames": None}
    (root / "captions.json").write_text(json.dumps(rows))
    (root / "a.txt").write_text("beside")
    captions, problems = captions_of(root)
    assert captions == {"deep/b c.mp4": ("x", "y"), "a.mp4": ("beside",)}
    assert not problems


def test_names_that_fit_no_clip_or_two_are_reported(root):
    (root / "other" / "b c.mp4").touch()
    clips = [Candidate(key, root / key) for key in (*KEYS, "other/b c.mp4")]
    (root / "captions.json").write_text(json.dumps({"gone.mp4": "x", "b c.mp4": "y"}))
    captions, problems = read_captions(clips, root, None)
    assert not captions
    assert [p.key for p in problems] == ["gone.mp4", "b c.mp4"]


def test_several_tables_need_a_choice(root):
    for name in ("x.json", "y.csv"):
        (root / name).write_text('{"a.mp4": "x"}')
    with pytest.raises(DataError, match="--captions"):
        captions_of(root)
    assert captions_of(root, root / "x.json")[0] == {"a.mp4": ("x",)}
    (root / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "named"}')
    assert captions_of(root)[0] == {"a.mp4": ("named",)}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("captions.json", "{", "cannot be read"),
        ("captions.json", "3", "object or a list"),
        ("captions.json", '{"a.mp4": 3}', "caption of a.mp4 is no text"),
        ("captions.json", '[{"file": "a.mp4"}]', "entry 1 lacks a column"),
        ("captions.jsonl", '{"file": "a", "text": "x"}\nnonsense', "cannot be read"),
        ("captions.csv", "a,b\n1,2\n", "row 2 lacks a column"),
        ("captions.json", "[" * 100_000, "cannot be read"),
    ],
)
def test_damaged_tables_are_refused_with_the_place(root, name, text, words):
    (root / name).write_text(text)
    with pytest.raises(DataError, match=words):
        captions_of(root)


def test_file_that_only_happens_to_be_json_does_not_stop_anything(root):
    (root / "settings.json").write_text('{"volume": 3}')
    captions, (problem,) = captions_of(root)
    assert not captions and problem.key == "settings.json"
