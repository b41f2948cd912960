"""How the app starts: the page first, the model behind it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from demo.serve import _offers_mcp, _say_share
from demo.settings import Settings
from demo.strings import load_texts

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "diffusers", "transformers", "bitsandbytes")

PROBE = f"""
import json, sys, threading, time, urllib.request
started = time.process_time()
from demo.serve import serve
from demo.settings import Settings
asked, answered = threading.Event(), threading.Event()
report = {{}}

def load(on_progress):
    asked.set()
    answered.wait(60)
    raise SystemExit("the model is not needed here")

page = serve(Settings(port=int(sys.argv[1])), load)
report["seconds"] = time.process_time() - started
report["heavy"] = [name for name in {HEAVY!r} if name in sys.modules]
with urllib.request.urlopen(page.local_url) as answer:
    report["page"] = answer.read().decode()[:15]
report["loading"] = asked.wait(60)
answered.set()
page.close(verbose=False)
print(json.dumps(report))
"""


def probe(port):
    environ = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", PROBE, str(port)]
    done = subprocess.run(
        command, cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_page_answers_before_torch_is_imported_and_the_model_loads_behind_it(free_port):
    report = probe(free_port)
    assert report["heavy"] == []
    assert report["page"].lower().startswith("<!doctype html>")
    assert report["loading"]
    assert report["seconds"] < 10  # of this process, so that a busy machine does not matter


def test_port_in_use_is_said_in_a_sentence(taken_port):
    command = [sys.executable, "app.py", "--port", str(taken_port)]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert f"127.0.0.1:{taken_port} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_mcp_is_offered_where_it_is_asked_for_and_its_package_is_there(monkeypatch, caplog):
    texts = load_texts()
    for there in (object(), None):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, there=there: there)
        assert not _offers_mcp(Settings(), texts) and not caplog.records
        assert _offers_mcp(Settings(mcp=True), texts) == (there is not None)
    assert "pip install 'gradio[mcp]'" in caplog.text


def test_share_says_whether_there_is_a_link(caplog):
    texts, own = load_texts(), "http://127.0.0.1:7860/"
    _say_share(None, own, texts)
    assert "is this machine online?" in caplog.text and own in caplog.text
    caplog.clear()
    _say_share("https://x.gradio.live", own, texts)
    assert "Anyone with this link" in caplog.text and "https://x.gradio.live" in caplog.text
