"""The project keeps the structure of its design: doors, layers, sizes, quiet imports."""

import subprocess
import sys
import tomllib
from functools import partial

import pytest
from structure_rules import (
    ALLOWED,
    FREE,
    ROOT,
    Source,
    check_app,
    check_banned,
    check_demo,
    check_docstrings,
    check_doors,
    check_effects,
    check_layers,
    check_parameters,
    check_sizes,
    check_types,
    sources,
)

import latte_core

# What may stand although a rule speaks against it: the complaint, and why.
EXCEPTIONS = {
    "app.py uses os.environ when imported": "gradio and the hub read their switches on import",
    "latte_core/cli.py prints": "a command answers on the terminal",
    "latte_core/cli_generate.py prints": "a command answers on the terminal",
    "latte_core/components/preview.py imports checkpoints": "PreviewMap is a part of the manifest",
}

PARTS = {*ALLOWED, *FREE}
PUBLIC = {*latte_core.__all__, "__version__"}
CODE = ("latte_core", "demo", "app.py")

in_layers = partial(check_layers, parts=PARTS)
in_demo = partial(check_demo, public=PUBLIC)

RULES = {
    "doors": (check_doors, CODE),
    "layers": (in_layers, ("latte_core",)),
    "demo": (in_demo, ("demo",)),
    "app": (check_app, ("app.py",)),
    "sizes": (check_sizes, (*CODE, "tests")),
    "parameters": (check_parameters, CODE),
    "banned": (check_banned, CODE),
    "docstrings": (check_docstrings, CODE),
    "types": (check_types, CODE),
    "effects": (check_effects, CODE),
}


@pytest.mark.parametrize("rule", RULES)
def test_project_keeps_rule(rule):
    check, folders = RULES[rule]
    files = sources(*folders)
    assert files
    complaints = [text for source in files for text in check(source)]
    assert [text for text in complaints if text not in EXCEPTIONS] == []


def test_exceptions_are_still_needed():
    complaints = {
        text for check, folders in RULES.values() for s in sources(*folders) for text in check(s)
    }
    assert set(EXCEPTIONS) <= complaints


def test_every_part_of_the_core_has_its_place_in_the_layers():
    parts = {source.part for source in sources("latte_core")}
    assert parts <= PARTS


LONG = "def f() -> None:\n" + "    x = 1\n" * 60
MANY = "def f(self, a: int, b: int, c: int, d: int, e: int, f: int, g: int, *, h: int) -> None: ..."
MODEL, ENGINE, PAGE = "latte_core/model/x.py", "latte_core/engine/x.py", "demo/x.py"

CAUGHT = [
    (check_doors, MODEL, "import diffusers"),
    (check_doors, MODEL, "def f():\n    from transformers import T5Tokenizer"),
    (check_doors, MODEL, "from importlib import import_module\nimport_module('av.container')"),
    (check_doors, "latte_core/components/vae.py", "import bitsandbytes"),
    (check_doors, "latte_core/engine/engine.py", "import accelerate.hooks"),
    (check_doors, ENGINE, "import gradio as gr"),
    (check_doors, "latte_core/data/x.py", "import torchvision"),
    (in_layers, MODEL, "from latte_core.checkpoints import Defaults"),
    (in_layers, MODEL, "from ..engine import request"),
    (in_layers, MODEL, "from latte_core import checkpoints"),
    (in_layers, ENGINE, "def f():\n    from latte_core.data.world import World"),
    (in_layers, ENGINE, "import latte_core.training.loop"),
    (in_layers, ENGINE, "from latte_core.evaluation import probe"),
    (in_layers, ENGINE, "from latte_core.media import write_clip"),
    (in_layers, ENGINE, "from latte_core import Engine"),
    (in_layers, ENGINE, "from demo import ui"),
    (in_layers, "latte_core/media/x.py", "from latte_core.engine.request import Recipe"),
    (in_layers, "latte_core/data/x.py", "from latte_core.training import loop"),
    (in_demo, PAGE, "from latte_core.engine.request import GenerationRequest"),
    (in_demo, PAGE, "import latte_core.media"),
    (in_demo, PAGE, "from latte_core import Trainer"),
    (in_demo, PAGE, "import app"),
    (check_app, "app.py", "import torch"),
    (check_sizes, MODEL, "x = 1\n" * 401),
    (check_sizes, MODEL, LONG),
    (check_parameters, MODEL, MANY),
    (check_banned, "latte_core/utils.py", ""),
    (check_banned, MODEL, "def f():\n    print('x')"),
    (check_banned, MODEL, "try:\n    x = 1\nexcept:\n    pass"),
    (check_docstrings, MODEL, "x = 1"),
    (check_docstrings, MODEL, '"""Doc."""\ndef f(): ...'),
    (check_docstrings, MODEL, '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): ...'),
    (check_types, MODEL, "def f(x: int): ..."),
    (check_types, MODEL, "def f(x) -> int: ..."),
    (check_types, MODEL, "class A:\n    def _f(self, *more) -> int: ..."),
    (check_effects, MODEL, "import torch\ntorch.manual_seed(0)"),
    (check_effects, MODEL, "import os\nos.environ['A'] = '1'"),
    (check_effects, MODEL, "import os\nA = os.environ.get('A')"),
    (check_effects, MODEL, "from pathlib import Path\nif True:\n    Path('runs').mkdir()"),
    (check_effects, MODEL, "class A:\n    text = open('x').read()"),
    (check_effects, MODEL, "def f(text=open('x')): ..."),
    (check_effects, MODEL, "import torch\nCUDA = torch.cuda.is_available()"),
]


@pytest.mark.parametrize(("check", "path", "text"), CAUGHT)
def test_rule_catches_what_it_is_for(check, path, text):
    assert list(check(Source(path, text)))


PASSED = [
    (check_doors, "latte_core/components/text_encoder.py", "import transformers, bitsandbytes"),
    (check_doors, "latte_core/training/loop.py", "from accelerate import Accelerator"),
    (
        in_layers,
        ENGINE,
        "from latte_core.components import vae\nfrom latte_core import checkpoints",
    ),
    (in_layers, ENGINE, "from latte_core import __version__"),
    (in_layers, "latte_core/evaluation/x.py", "from latte_core import Engine"),
    (in_layers, "latte_core/cli.py", "from latte_core.training import command"),
    (in_demo, PAGE, "from latte_core import Engine, GenerationRequest"),
    (check_sizes, MODEL, LONG.removesuffix("    x = 1\n")),
    (check_parameters, MODEL, MANY.replace(", *, h: int", "")),
    (check_types, MODEL, "class A:\n    def f(self, x: int, *y: int, **z: int) -> None: ..."),
    (check_effects, MODEL, "def f():\n    open('x')\nif __name__ == '__main__':\n    open('x')"),
]


@pytest.mark.parametrize(("check", "path", "text"), PASSED)
def test_rule_lets_the_right_thing_pass(check, path, text):
    assert list(check(Source(path, text))) == []


def test_the_linter_holds_complexity_at_ten():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert settings["lint"]["mccabe"]["max-complexity"] == 10
    assert "C90" in settings["lint"]["select"]
    assert settings["line-length"] == 100


@pytest.mark.parametrize("package", ["latte_core", "demo"])
def test_package_is_imported_without_torch(package):
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_importing_torch_would_be_noticed():
    code = "import sys, latte_core; latte_core.Latte; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 1


@pytest.mark.parametrize("name", latte_core.__all__)
def test_public_name_can_be_imported(name):
    assert getattr(latte_core, name) is not None


def test_test_files_have_names_of_their_own():
    """Pytest imports them by bare name, so two of one name cannot run together."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
