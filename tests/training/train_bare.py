"""Started by a test: train a recipe where only what it may need can be imported.

Arguments: a recipe's file and a folder. What is not of PyTorch, transformers, safetensors, numpy,
Pillow or of a package that one of them requires, is as if it were not installed, and there is no
network. Prints the names of such packages that were asked for.
"""

import importlib.metadata as metadata
import re
import socket
import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path
from typing import ClassVar

INSTALLED = ("torch", "transformers", "safetensors", "numpy", "pillow")
SITE = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def required(names):
    """These distributions and all that they need, by their normal names."""
    found, open_ends = set(), list(names)
    while open_ends:
        name = re.sub(r"[-_.]+", "-", open_ends.pop()).lower()
        if name in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another system
        found.add(name)
        wanted = [line for line in lines if "extra ==" not in line]
        open_ends += [re.match(r"[\w.-]+", line).group() for line in wanted]
    return found


class Bare(PathFinder):
    """Finds of the installed packages those that are allowed, and no other."""

    missed: ClassVar[set] = set()
    allowed: ClassVar[set] = set()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        top = name.partition(".")[0]
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        if top in cls.allowed or not any(str(place).startswith(SITE) for place in places):
            return spec
        cls.missed.add(top)
        return None


def seal():
    """Take away everything else, and the network."""
    kept = required(INSTALLED)
    by_import = metadata.packages_distributions()
    Bare.allowed = {
        top
        for top, owners in by_import.items()
        if any(re.sub(r"[-_.]+", "-", owner).lower() in kept for owner in owners)
    }
    sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]

    connect = socket.socket.connect

    def refuse(*given):
        if getattr(given[0], "family", None) == socket.AF_UNIX:  # between a loader's processes
            return connect(*given)
        raise OSError("no network")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse


if __name__ == "__main__":
    seal()
    from latte_core import cli

    recipe, folder = Path(sys.argv[1]), Path(sys.argv[2])
    line = ["train", str(recipe), "--folder", str(folder / "run"), "--device", "cpu"]
    code = cli.main([*line, "--out", str(folder / "model"), *sys.argv[3:]])
    sys.stdout.write(" ".join(sorted(Bare.missed)))
    sys.exit(code)
