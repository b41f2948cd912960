"""The rules of the project's structure, as functions from a source file to complaints.

Every rule reads a syntax tree and imports nothing that it checks; `test_structure.py` applies
them to the tree and shows for each that it catches what it is for.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 7
BANNED_NAMES = {"utils.py", "common.py", "helpers.py", "misc.py"}

# Which parts of latte_core a part may import, itself aside. "api" is `from latte_core import X`.
ALLOWED = {
    "errors": set(),
    "model": {"errors"},
    "checkpoints": {"errors", "model"},
    "diffusion": {"errors", "model"},
    "components": {"errors", "model"},
    "engine": {"errors", "model", "checkpoints", "diffusion", "components"},
    "media": {"errors"},
    "data": {"errors", "model", "checkpoints", "diffusion", "components"},
    "evaluation": {"errors", "model", "checkpoints", "diffusion", "components", "data", "api"},
    "benchmark": {
        *("errors", "model", "checkpoints", "diffusion", "components", "engine", "evaluation"),
    },
    "calibration": {
        *("errors", "checkpoints", "diffusion", "engine", "data", "evaluation", "benchmark", "api"),
    },
    "training": {"errors", "model", "checkpoints", "diffusion", "components", "data", "evaluation"},
    "__main__": {"cli"},
}
FREE = {"cli", "cli_generate", "__init__"}  # commands join everything; __init__ is the table

# The only places that may import a package. A folder ends in a slash.
CORE = "latte_core/"
DOORS = {
    "gradio": ("demo/",),
    "transformers": (CORE + "components/text_encoder.py",),
    "diffusers": (
        CORE + "components/vae.py",
        CORE + "components/block_streaming.py",
        CORE + "diffusion/schedulers.py",
        CORE + "checkpoints/",
        CORE + "benchmark/stock.py",
    ),
    "accelerate": (CORE + "engine/memory.py", CORE + "training/"),
    "bitsandbytes": (CORE + "components/text_encoder.py",),
    "peft": (CORE + "training/lora.py",),
    "av": (CORE + "media/", CORE + "data/"),
    "imageio": (CORE + "media/", CORE + "data/"),
    "torchvision": (),
    "timm": (),
    "imageio_ffmpeg": (),
}

# Calls that reach for disk, network, device, environment, seeds or processes.
EFFECTS = {
    *("open", "print", "exec", "eval", "input"),
    *("mkdir", "makedirs", "mkdtemp", "mkstemp", "touch", "unlink", "rename", "rmtree", "chdir"),
    *("read_text", "read_bytes", "write_text", "write_bytes", "glob", "rglob", "iterdir"),
    *(
        "exists",
        "is_file",
        "is_dir",
        "stat",
        "listdir",
        "load_file",
        "safe_open",
        "from_pretrained",
    ),
    *("getenv", "putenv", "manual_seed", "seed", "set_num_threads", "set_default_dtype"),
    *("is_available", "device_count", "urlopen", "snapshot_download", "basicConfig"),
    *("Popen", "system", "check_call", "check_output", "json.load", "torch.load", "np.load"),
    *("subprocess.run", "threading.Thread", "Thread"),
}


@dataclass(frozen=True)
class Source:
    """One file: its path from the project's root, with forward slashes, and its text."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """The file's syntax tree."""
        return ast.parse(self.text, self.path)

    @property
    def part(self) -> str:
        """The part of latte_core that the file belongs to, empty outside of it."""
        if not self.path.startswith(CORE):
            return ""
        return self.path.removeprefix(CORE).split("/")[0].removesuffix(".py")


Rule = Iterator[str]  # what is wrong, each with the place it is wrong in


def sources(*folders: str) -> list[Source]:
    """Every Python file of the project below these folders, or the file itself."""
    paths = []
    for folder in folders:
        top = ROOT / folder
        paths += [top] if top.is_file() else sorted(top.rglob("*.py"))
    return [Source(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in paths]


def imports(source: Source) -> list[tuple[str, str]]:
    """Every (module, name) that a file imports, wherever it does; name is empty for `import m`."""
    package = source.path.removesuffix(".py").split("/")[:-1]
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("import_module"):
            found += [(str(a.value), "") for a in node.args if isinstance(a, ast.Constant)]
    return found


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def check_doors(source: Source) -> Rule:
    """A package is imported only where its door is."""
    for module, _ in imports(source):
        package = module.split(".")[0]
        if package in DOORS and not source.path.startswith(DOORS[package] or ("nowhere",)):
            yield f"{source.path} imports {package}"


def check_layers(source: Source, parts: set[str]) -> Rule:
    """Inside latte_core, imports go down only, and nothing reaches back to the programs."""
    for module, name in imports(source):
        if module.split(".")[0] in ("demo", "app", "tests"):
            yield f"{source.path} imports {module}"
        if module.split(".")[0] != "latte_core" or source.part in FREE:
            continue
        steps = [*module.split(".")[1:], name]
        part = steps[0] if steps[0] in parts else "api"
        if part == "api" and name.startswith("__"):
            continue  # the version
        if part != source.part and part not in ALLOWED[source.part]:
            yield f"{source.path} imports {part}"


def check_demo(source: Source, public: set[str]) -> Rule:
    """The page uses the public names of latte_core, and nothing below them."""
    for module, name in imports(source):
        if module == "app" or module.split(".")[0] == "tests":
            yield f"{source.path} imports {module}"
        if module.startswith("latte_core.") or (module == "latte_core" and name not in public):
            yield f"{source.path} imports {module} {name}".rstrip()


def check_app(source: Source) -> Rule:
    """The program's file imports the page only."""
    for module, _ in imports(source):
        if module.split(".")[0] in ("latte_core", "torch", "gradio"):
            yield f"{source.path} imports {module}"


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def check_sizes(source: Source) -> Rule:
    """Files and functions end where STYLE.md says."""
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield f"{source.path} is over {FILE_LINES} lines"
    for node in functions(source.tree):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{source.path}:{node.name} is over {FUNCTION_LINES} lines"


def check_parameters(source: Source) -> Rule:
    """A function takes at most seven parameters, `self` aside."""
    for node in functions(source.tree):
        names = [a.arg for a in _parameters(node) if a.arg not in ("self", "cls")]
        if len(names) > PARAMETERS:
            yield f"{source.path}:{node.name} has over {PARAMETERS} parameters"


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    a = node.args
    more = [x for x in (a.vararg, a.kwarg) if x is not None]
    return [*a.posonlyargs, *a.args, *a.kwonlyargs, *more]


def check_banned(source: Source) -> Rule:
    """No print, no bare except, no file without a subject."""
    if source.path.split("/")[-1] in BANNED_NAMES:
        yield f"{source.path} is named after nothing"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "print":
            yield f"{source.path} prints"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{source.path} has a bare except"


def check_docstrings(source: Source) -> Rule:
    """A module and every public name in it say what they are for."""
    if not ast.get_docstring(source.tree):
        yield f"{source.path} has no docstring"
    yield from _undocumented(source.path, source.tree.body)


def _undocumented(where: str, body: list[ast.stmt]) -> Rule:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _undocumented(where, node.body)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_") or _is_variant(node):
            continue
        if not ast.get_docstring(node):
            yield f"{where}:{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(f"{where}:{node.name}", node.body)


def _is_variant(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Setters, overloads and overrides are told where they are first written."""
    names = {dotted(d).split(".")[-1] for d in node.decorator_list}
    return bool(names & {"setter", "overload", "override"})


def check_types(source: Source) -> Rule:
    """Every signature is typed whole."""
    for node in functions(source.tree):
        bare = [a.arg for a in _parameters(node) if a.annotation is None]
        bare = [name for name in bare if name not in ("self", "cls")]
        if bare or node.returns is None:
            yield f"{source.path}:{node.name} lacks types ({', '.join([*bare, 'return'][:3])})"


def check_effects(source: Source) -> Rule:
    """Importing a module reaches for nothing outside of it."""
    for node in _run_at_import(source.tree.body):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            last = node.func.attr if isinstance(node.func, ast.Attribute) else name
            if name in EFFECTS or last in EFFECTS:
                yield f"{source.path} calls {name or last} when imported"
        if dotted(node) == "os.environ":
            yield f"{source.path} uses os.environ when imported"


def _run_at_import(nodes: list[ast.stmt] | list[ast.AST]) -> Iterator[ast.AST]:
    """The parts of a module that run when it is imported: all but the bodies of functions."""
    for node in nodes:
        if isinstance(node, ast.If) and _is_guarded(node.test):
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
            yield from _run_at_import([*node.decorator_list, *defaults])
            continue
        yield node
        yield from _run_at_import(list(ast.iter_child_nodes(node)))


def _is_guarded(test: ast.expr) -> bool:
    """Whether this is `if TYPE_CHECKING` or `if __name__ == "__main__"`."""
    return ast.unparse(test) in ("TYPE_CHECKING", "__name__ == '__main__'")
