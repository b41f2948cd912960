"""The lazy public API: every name resolves, and importing the package is free."""

import subprocess
import sys

import pytest

import latte_core


def test_importing_the_package_needs_no_torch():
    code = (
        "import sys, latte_core\n"
        "from latte_core import GenerationRequest, Step, EngineInfo, Finished, RequestError\n"
        "GenerationRequest('a cow')\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'accelerate', 'av', 'gradio'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'utils'"):
        _ = latte_core.utils


def test_dir_lists_the_public_names():
    assert set(latte_core.__all__) <= set(dir(latte_core))
