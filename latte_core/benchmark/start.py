"""How long a newcomer waits: from `python app.py` to the page, and to the first finished clip."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from latte_core.errors import LatteError

PROJECT = Path(__file__).resolve().parents[2]
POLL_S = 0.1
PROMPT = "a whale goes left in the blue sky"


@dataclass(frozen=True)
class FirstClip:
    """Seconds since `python app.py`, until the page answered and until the clip was finished."""

    page_s: float
    clip_s: float


def time_to_first_clip(timeout_s: float = 300.0) -> FirstClip:
    """Start the app on a free port and ask it for a clip, as soon as its page answers.

    Raises LatteError if the app ends or the page does not answer in time.
    """
    import gradio_client

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        port = _free_port()
        app = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--history", ""],
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _await_page(f"http://127.0.0.1:{port}/", app, began + timeout_s)
            page_s = time.perf_counter() - began
            client = gradio_client.Client(
                f"http://127.0.0.1:{port}/", verbose=False, download_files=folder
            )
            clip = client.predict(PROMPT, seed=7, api_name="/generate")[0]
            clip_s = time.perf_counter() - began
            if not clip:
                raise LatteError("The app finished without a clip: run `python app.py` and look.")
        finally:
            app.terminate()
            app.wait()
    return FirstClip(page_s, clip_s)


def _await_page(url: str, app: subprocess.Popen[bytes], until: float) -> None:
    while time.perf_counter() < until:
        if app.poll() is not None:
            raise LatteError(f"app.py ended with code {app.returncode}: run it and look.")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_S)
    raise LatteError("The page of app.py did not answer in time: run it and look.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
