"""The command line: files, a progress bar, sentences and exit codes."""

import io
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from latte_core import cli, cli_generate, read_clip, read_recipe
from latte_core.engine.events import Decoding, Encoded, Loading, Step


def run(capsys, *arguments):
    """Exit code, stdout, stderr."""
    try:
        code = cli.main(["generate", *map(str, arguments)])
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def options(tiny_folder):
    return ["--model", tiny_folder, "--seed", "7", "--steps", "2"]


def test_generate_writes_a_clip_that_its_recipe_makes_again(capsys, tmp_path, options):
    target = tmp_path / "clip.mp4"
    code, out, err = run(capsys, "a red cow", "--out", target, *options)
    assert (code, out.strip()) == (0, str(target))
    assert "step 2/2" in err
    assert "resident on cpu" in err
    assert os.listdir(tmp_path) == ["clip.mp4"]
    recipe = read_recipe(target)
    assert (recipe["prompt"], recipe["seed"], recipe["num_inference_steps"]) == ("a red cow", 7, 2)
    again = tmp_path / "again.mp4"
    assert run(capsys, recipe["prompt"], "--out", again, *options)[0] == 0
    assert np.array_equal(read_clip(target), read_clip(again))


def test_generate_writes_stills(capsys, tmp_path, options):
    joint = tmp_path / "clip.mp4"
    code, out, _ = run(
        capsys, "a cow", "--out", joint, "--mode", "joint", "--images", 2, "--quiet", *options
    )
    names = ["clip.mp4", "clip-1.png", "clip-2.png"]
    assert (code, out.split()) == (0, [str(tmp_path / name) for name in names])
    one = tmp_path / "one.png"
    code, out, err = run(capsys, "a cow", "--out", one, "--mode", "image", "--quiet", *options)
    assert (code, out.strip(), err) == (0, str(one), "")
    assert np.array_equal(
        np.asarray(Image.open(one)), np.asarray(Image.open(joint.with_name("clip-1.png")))
    )


@pytest.mark.parametrize(
    "arguments,words",
    [
        ([""], "prompt is empty"),
        (["x" * 301], "limit is 300"),
        (["a cow", "--steps", "0"], "num_inference_steps is 0.*from 1 to 250"),
        (["a cow", "--steps", "2.5"], "num_inference_steps is 2.5"),
        (["a cow", "--steps", "many"], "not 'many'"),
        (["a cow", "--seed", "-1"], "seed is -1"),
        (["a cow", "--guidance", "nan"], "guidance_scale must be a number"),
        (["a cow", "--height", "100"], "multiple of 16: take 96 or 112"),
        (["a cow", "--frames", "3"], "clips of 1 or 8 to 64 frames"),
        (["a cow", "--scheduler", "magic"], "must be one of: ddim"),
        (["a cow", "--mode", "film"], "must be one of: video"),
        (["a cow", "--memory", "huge"], "auto or one of"),
        (["a cow", "--device", "abacus"], "this machine has"),
        (["a cow", "--model", "/no/such/model"], "/no/such/model"),
        (["a cow", "--out", "/no/such/folder/clip.mp4"], "does not exist"),
        (["a cow", "--out", "clip.avi"], r"must end in \.mp4"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(
    capsys, tmp_path, monkeypatch, tiny_folder, arguments, words
):
    monkeypatch.chdir(tmp_path)
    if "--model" not in arguments:
        arguments = [*arguments, "--model", tiny_folder]
    code, out, err = run(capsys, "--quiet", *arguments)
    assert code == 2
    assert out == ""
    assert re.search(words, err)
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_a_command_is_needed_and_help_is_light():
    code = (
        "import sys\nfrom latte_core import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2


def test_commands_are_imported_only_when_called(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "broken", cli.Command("latte_core.no_such_module", "x"))
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    with pytest.raises(ModuleNotFoundError):
        cli.main(["broken"])


def test_interrupt_stops_cleanly(tmp_path, tiny_folder):
    arguments = [sys.executable, "-m", "latte_core", "generate", "a red cow", "--steps", "250"]
    arguments += ["--model", str(tiny_folder), "--out", str(tmp_path / "clip.mp4")]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    seen = ""
    for line in process.stderr:
        seen += line
        if "step 2/250" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == cli.INTERRUPTED, seen + rest
    assert "Stopped at step" in rest
    assert "Traceback" not in rest
    assert os.listdir(tmp_path) == []


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def _step(index, eta_s=None):
    empty = np.zeros((0, 1, 1, 3), np.uint8)
    return Step(index, 4, empty, empty, 0.1, eta_s)


EVENTS = [
    Loading("plan", "resident on cpu", 0.1),
    Encoded(3, ("zebra", "rokcet"), 0.1, {"rokcet": "rocket"}),
    _step(0),
    _step(2, 12.4),
    _step(4, 0.0),
    Decoding(1, 8),
]


def test_progress_redraws_one_line_on_a_terminal():
    stream = Terminal()
    progress = cli_generate.Progress(stream, quiet=False)
    for event in EVENTS:
        progress.show(event)
    progress.close()
    text = stream.getvalue()
    assert text.count("\r") == 4
    assert "[############............] step 2/4  12 s left" in text
    assert "The model does not know: zebra, rokcet (nearest: rocket)" in text
    assert text.endswith("\n")


def test_progress_writes_lines_elsewhere_and_nothing_when_quiet():
    stream = io.StringIO()
    for event in EVENTS:
        cli_generate.Progress(stream, quiet=False).show(event)
    assert "\r" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == len(EVENTS)
    silent = io.StringIO()
    for event in EVENTS:
        cli_generate.Progress(silent, quiet=True).show(event)
    assert silent.getvalue() == ""


def test_generate_begins_with_a_picture(capsys, tmp_path, options):
    start = tmp_path / "start.png"
    Image.fromarray(np.full((50, 90, 3), 120, np.uint8)).save(start)
    out = tmp_path / "clip.mp4"
    code, _, _ = run(capsys, "a cow", "--out", out, "--first-frame", start, "--quiet", *options)
    assert code == 0
    given = read_recipe(out)["first_frame"]
    assert given.startswith("data:image/png;base64,")
    again = tmp_path / "again.mp4"
    assert run(capsys, "a cow", "--out", again, "--first-frame", given, *options)[0] == 0
    assert read_recipe(again) == read_recipe(out)


def test_generate_refuses_a_file_that_is_no_picture_before_it_loads(capsys, tmp_path):
    (tmp_path / "start.png").write_text("no picture")
    model = ["--model", "/no/such/model"]
    code, _, err = run(capsys, "a cow", "--first-frame", tmp_path / "start.png", *model)
    assert (code, "start.png is no picture" in err) == (2, True)
