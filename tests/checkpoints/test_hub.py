"""Fetching a model, with the hub's own client against a small hub on this machine."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants

from latte_core import CheckpointError, Engine, Loading
from latte_core.checkpoints import resolve_model
from latte_core.checkpoints.folders import HUB_FILES
from latte_core.checkpoints.hub import Count, fetch

COMMIT = "1" * 40
NAME = "someone/tiny-latte"


class Hub(BaseHTTPRequestHandler):
    """The routes of a hub that a download needs, with one repository."""

    files: ClassVar[dict[str, Path]] = {}

    def log_message(self, *args: object) -> None:
        return None

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path, headers = self.path.split("?")[0], {}
        if path.startswith(f"/api/models/{NAME}/tree"):
            content = json.dumps([entry(name, file) for name, file in self.files.items()]).encode()
        elif path.startswith(f"/api/models/{NAME}"):
            listed = [{"rfilename": name} for name in self.files]
            content = json.dumps({"id": NAME, "sha": COMMIT, "siblings": listed}).encode()
        elif path.startswith(f"/{NAME}/resolve/"):
            file = self.files[path.split("/resolve/")[1].partition("/")[2]]
            headers = {"ETag": f'"{oid(file)}"', "X-Repo-Commit": COMMIT}
            content = file.read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def entry(name: str, file: Path) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": file.stat().st_size, "oid": oid(file)}


def oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture
def hub(tiny_folder, tmp_path, monkeypatch):
    """A hub that has the tiny model, an empty cache, and a client that knows no other hub."""
    files = {path.relative_to(tiny_folder).as_posix(): path for path in tiny_folder.rglob("*.*")}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Hub,), {"files": files}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_tells_its_bytes_and_a_second_one_fetches_nothing(hub, tiny_folder):
    told: list[tuple[int, int]] = []
    folder = fetch(NAME, HUB_FILES, lambda done, total: told.append((done, total)))
    size = sum(file.stat().st_size for file in tiny_folder.rglob("*.*"))
    assert {total for _, total in told} == {size}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[0] == (0, size) and told[-1] == (size, size)
    for file in tiny_folder.rglob("*.*"):
        assert (folder / file.relative_to(tiny_folder)).read_bytes() == file.read_bytes()
    told.clear()
    assert fetch(NAME, HUB_FILES, lambda *told_now: told.append(told_now)) == folder
    assert told == []


def test_the_engine_says_what_it_fetches(hub, tiny_folder):
    seen: list[Loading] = []
    Engine.load(NAME, device="cpu", on_progress=seen.append).close()
    fetched = [event for event in seen if event.stage == "fetch"]
    assert fetched[0].fraction == 0 and fetched[-1].fraction == 1
    assert fetched[-1].bytes_done == fetched[-1].bytes_total > 100_000
    assert fetched[-1].message.startswith(f"Fetching {NAME}: 0.00 of 0.00 GB")
    assert seen[-1].stage == "ready"


def test_what_the_hub_does_not_have_is_said_in_a_sentence(hub):
    with pytest.raises(CheckpointError, match=r"no folder 'someone/else'.* from the hub either"):
        resolve_model("someone/else", lambda done, total: None)


def test_bytes_are_told_seldom_and_never_backwards(monkeypatch):
    told: list[int] = []
    clock = iter(range(100))
    monkeypatch.setattr("latte_core.checkpoints.hub.time.monotonic", lambda: next(clock) / 10)
    count = Count(100, lambda done, total: told.append(done))
    for done in (1, 2, 3, 4, 3, 50, 60, 200, 99):
        count.reach(done)
    assert told == [0, 1, 4, 60, 100] and told == sorted(told)
