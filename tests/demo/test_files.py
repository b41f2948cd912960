"""Our own routes: a visitor's files, what is made on demand, and dropped files."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from test_history import generation

from demo import files
from demo.files import Files, export_names, lay_out
from demo.history import History
from demo.strings import load_texts
from demo.visitors import COOKIE, owner_of
from latte_core import read_clip, read_recipe

ANN, BOB = "a" * 32, "b" * 32


def owner(cookie):
    return owner_of(type("Request", (), {"cookies": {COOKIE: cookie}})())


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "runs", private=True)


@pytest.fixture
def client(history):
    return TestClient(Files(history, load_texts()).router())


def fetch(client, entry, name, cookie=ANN):
    return client.get("/" + entry.url(name), headers={"cookie": f"{COOKIE}={cookie}"})


def test_files_of_a_run_go_to_its_visitor_only(history, client):
    entry = history.add(generation(stills=1), "joint", owner(ANN))
    for path in (entry.clip, *entry.stills, entry.thumbnail):
        answer = fetch(client, entry, path.name)
        assert answer.status_code == 200 and answer.content == path.read_bytes()
        assert fetch(client, entry, path.name, BOB).status_code == 404
        assert fetch(client, entry, path.name, "").status_code == 404
    assert fetch(client, entry, entry.clip.name).headers["content-type"] == "video/mp4"


def test_clip_is_served_in_ranges_as_players_ask(history, client):
    entry = history.add(generation(), "video", owner(ANN))
    headers = {"cookie": f"{COOKIE}={ANN}", "range": "bytes=10-19"}
    answer = client.get("/" + entry.url(entry.clip.name), headers=headers)
    assert answer.status_code == 206 and answer.content == entry.clip.read_bytes()[10:20]


def test_formats_are_made_when_asked_for_and_carry_the_recipe(history, client, tmp_path):
    entry = history.add(generation(), "video", owner(ANN))
    names = export_names(entry)
    assert not any((entry.folder / name).exists() for name in names.values())
    for kind, name in names.items():
        answer = fetch(client, entry, name)
        assert answer.status_code == 200
        copy = tmp_path / f"copy.{kind}"
        copy.write_bytes(answer.content)
        assert read_recipe(copy) == entry.recipe
    assert len(zipfile.ZipFile(tmp_path / "copy.zip").namelist()) == 5
    assert Image.open(tmp_path / "copy.gif").n_frames == 4
    assert Image.open(tmp_path / "copy.png").size == (4 * 32, 32)
    again = (entry.folder / names["gif"]).stat().st_mtime_ns
    fetch(client, entry, names["gif"])
    assert (entry.folder / names["gif"]).stat().st_mtime_ns == again


def test_sheet_has_the_frames_in_order():
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((10, 2, 3, 3), np.uint8)
    sheet = lay_out(frames)
    assert sheet.shape == (4, 24, 3)
    assert sheet[0, ::3, 0].tolist() == list(range(8)) and sheet[2, :6:3, 0].tolist() == [8, 9]
    assert not sheet[2:, 6:].any()


@pytest.mark.parametrize("name", ["entry.json", "nothing.gif", "..%2F..%2Fx", "%2e%2e", "x.mp4"])
def test_other_names_lead_nowhere(history, client, name):
    entry = history.add(generation(), "video", owner(ANN))
    assert fetch(client, entry, name).status_code == 404


def test_damaged_clip_is_answered_in_a_sentence(history, client):
    entry = history.add(generation(), "video", owner(ANN))
    entry.clip.write_bytes(b"gone bad")
    answer = fetch(client, entry, export_names(entry)["gif"])
    assert answer.status_code == 500 and "cannot be read as a video" in answer.json()["detail"]


def pair(client, a, b, name, cookie=ANN):
    return client.get(
        f"/studio/compare/{a.key}/{b.key}/{name}", headers={"cookie": f"{COOKIE}={cookie}"}
    )


def test_two_runs_of_one_visitor_come_as_clip_slices_and_table(history, client, tmp_path):
    a, b = (history.add(generation(seed), "video", owner(ANN)) for seed in (1, 2))
    answers = {name: pair(client, a, b, name) for name in ("compare.mp4", "compare.csv")}
    (tmp_path / "both.mp4").write_bytes(answers["compare.mp4"].content)
    assert read_clip(tmp_path / "both.mp4").shape == (4, 32, 68, 3)
    assert read_recipe(tmp_path / "both.mp4")["compared_with"]["seed"] == 2
    rows = list(csv.DictReader(io.StringIO(answers["compare.csv"].text)))
    assert [(row["run"], row["seed"], row["denoise_s"]) for row in rows] == [
        ("A", "1", "1.5"),
        ("B", "2", "1.5"),
    ]
    assert {row["memory_peak_gib"] for row in rows} == {"0.25"}
    slices = pair(client, a, b, "slices.png?x=0.25")
    shown = np.asarray(Image.open(io.BytesIO(slices.content)))
    assert shown.shape == (2 * 36, 4 * 8, 3)
    assert np.array_equal(shown[:32, ::8], read_clip(a.clip)[:, :, 8].transpose(1, 0, 2))
    assert np.array_equal(shown[36:68, ::8], read_clip(b.clip)[:, :, 8].transpose(1, 0, 2))
    for odd in ("nan", "-1", "2", "x"):
        assert pair(client, a, b, f"slices.png?x={odd}").status_code == 200


def test_runs_of_others_and_stills_cannot_be_compared(history, client):
    a, other = (history.add(generation(), "video", owner(cookie)) for cookie in (ANN, BOB))
    stills = history.add(generation(stills=1), "image", owner(ANN))
    assert pair(client, a, a, "compare.csv").status_code == 200
    assert pair(client, a, other, "compare.csv").status_code == 404
    assert pair(client, a, stills, "compare.csv").status_code == 404
    assert pair(client, a, a, "entry.json").status_code == 404


def drop(client, name, content):
    return client.post("/studio/recipe", params={"name": name}, content=content)


def test_dropped_files_give_their_recipe(history, client):
    entry = history.add(generation(stills=1), "joint", owner(ANN))
    dropped = [entry.clip, *entry.stills, entry.thumbnail]
    for name in export_names(entry).values():
        fetch(client, entry, name)
        dropped.append(entry.folder / name)
    for path in dropped:
        answer = drop(client, path.name.upper(), path.read_bytes())
        assert answer.status_code == 200, path.name
        assert answer.json() == {"recipe": entry.recipe}
    answer = drop(client, "recipe.json", json.dumps(entry.recipe))
    assert answer.json() == {"recipe": entry.recipe}


def test_dropped_foreign_files_are_answered_in_a_sentence(client):
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    for name, content, words in [
        ("holiday.png", plain.getvalue(), "holiday.png holds no recipe"),
        ("clip.mp4", b"\0" * 50, "clip.mp4 cannot be read: it is damaged, or no mp4"),
        ("empty.webp", b"", "empty.webp cannot be read"),
        ("notes.txt", b"hello", "notes.txt holds no recipe: only mp4"),
        ("../../etc/passwd.gif", b"GIF89a", "passwd.gif cannot be read"),
        ("<b>.png", b"x", "_b_.png cannot be read"),
        ("", b"x", "file holds no recipe"),
    ]:
        answer = drop(client, name, content)
        assert answer.status_code == 422 and words in answer.json()["detail"]
        assert "/tmp" not in answer.text


def test_dropped_files_have_a_limit(client, monkeypatch):
    monkeypatch.setattr(files, "MAX_DROP_BYTES", 1 << 20)
    answer = drop(client, "big.mp4", b"x" * ((1 << 20) + 1))
    assert answer.status_code == 413 and "larger than 1 MB" in answer.json()["detail"]


def test_clip_that_was_served_plays(history, client, tmp_path):
    entry = history.add(generation(), "video", owner(ANN))
    (tmp_path / "a.mp4").write_bytes(fetch(client, entry, entry.clip.name).content)
    assert read_clip(tmp_path / "a.mp4").shape == (4, 32, 32, 3)
