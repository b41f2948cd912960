"""What README.md tells people to type works as it stands there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from readme_blocks import marked_blocks

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
LIMIT_S = 300

SAMPLE = """
Text.

```bash
false
```

<!-- run -->
```bash
echo hello
```

<!-- run with --steps 20 => --steps 2; clip.mp4 => a.mp4 -->

```python
main("--steps 20 --out clip.mp4")
```
"""


def blocks():
    return marked_blocks(README.read_text(encoding="utf-8")) if README.is_file() else []


def run_block(block, folder):
    """Run a block where the project's files stand, but where its own files do no harm."""
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    head = {
        "bash": ["bash", "-euo", "pipefail", "-c"],
        "python": [sys.executable, "-c"],
    }[block.language]
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [*head, block.text],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """One folder for all blocks: a later command may use what an earlier one made."""
    return tmp_path_factory.mktemp("desk")


def test_marked_blocks_are_found_and_made_small():
    shell, script = marked_blocks(SAMPLE)
    assert (shell.language, shell.text, shell.line) == ("bash", "echo hello\n", 8)
    assert script.text == 'main("--steps 2 --out a.mp4")\n'


def test_change_of_text_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="--steps 7"):
        marked_blocks("<!-- run with --steps 7 => --steps 2 -->\n```bash\necho\n```\n")


def test_block_that_fails_is_noticed(tmp_path):
    (broken,) = marked_blocks("<!-- run -->\n```bash\nfalse\necho still here\n```\n")
    done = run_block(broken, tmp_path)
    assert done.returncode != 0
    assert "still here" not in done.stdout


@pytest.mark.skipif(not README.is_file(), reason="there is no README.md")
def test_readme_marks_commands_to_be_run():
    assert blocks()


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"line-{block.line}")
def test_readme_block_runs(block, desk):
    done = run_block(block, desk)
    assert done.returncode == 0, done.stdout[-3000:]
