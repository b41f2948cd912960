"""The real app on a small random model, and a real browser; both start once per session."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from deep_model import PAIRS
from ports import free_port
from tiny_folder import write_tiny_folder

PROJECT = Path(__file__).resolve().parents[2]
START_S = 600  # generous: the machine may be busy; the app's own promise is tested by itself


@pytest.fixture(scope="session")
def app_url(tmp_path_factory):
    """The address of `python app.py`, its deep model loaded."""
    folder = tmp_path_factory.mktemp("app")
    model = write_tiny_folder(folder / "deep-latte", pairs=PAIRS)
    port = free_port()
    environ = {
        **os.environ,
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "TMPDIR": str(folder),
        "LATTE_STUDIO_HISTORY": str(folder / "history"),
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "app.py", "--model", str(model), "--device", "cpu"]
    log = folder / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
        assert list(folder.glob("latte-studio-*")) == []


def wait_until_ready(process, url, log):
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"The app was not ready after {START_S} s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, driven by Playwright."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("There is no Chromium here; apt-get install chromium brings it.")
    sync_api = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens an address in a fresh browser profile; fails if it asks another host for anything."""
    hosts, contexts, faults, own = set(), [], [], set()

    def visit_one(url, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(host_of(request.url)))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        own.add(host_of(url))
        page.wait_for_selector(".ls-model[data-state=ready]")
        return page

    yield visit_one
    for context in contexts:
        context.close()
    assert faults == []
    assert hosts - {""} <= own


@pytest.fixture
def open_page(visit, app_url):
    """Opens the app with the tiny model."""
    return lambda **options: visit(app_url, **options)


@pytest.fixture(scope="module")
def serve_fake(tmp_path_factory):
    """Serves the page of this process before a stand-in for the engine; gives its address.

    `serve_fake(engine)`: for what is the page's own, where a real model would only cost time.
    """
    from fake_engine import load_fake

    from demo.serve import serve
    from demo.settings import Settings

    pages = []

    def serve_one(engine):
        port = free_port()
        pages.append(serve(Settings(port=port), load_fake(engine)))
        return f"http://127.0.0.1:{port}"

    yield serve_one
    for page in pages:
        page.close(verbose=False)


def host_of(url):
    """Host and port; nothing for data: and blob: addresses, which stay in the browser."""
    return url.split("/")[2] if url.startswith(("http", "ws")) else ""
