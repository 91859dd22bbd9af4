"""Imports go one way, and what must stay out of the engine stays out of it. Read from the syntax trees alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "duovsr_vs"
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "interrupts": set(),
    "model": {"errors"},
    "engine": {"model", "errors", "interrupts"},
    "video": {"errors", "interrupts"},
    "metrics": {"errors"},
    "compare": {"video", "metrics", "errors"},
    "filter": {"__init__", "engine", "model", "errors"},
    "cli": {"__init__", "engine", "model", "video", "metrics", "compare", "errors", "interrupts"},
}
"""Room of the package -> rooms that it may import, besides itself."""
NUMERIC = {"torch", "numpy", "einops", "safetensors"}
OUTSIDE = {"training", "nodes", "benchmarks", "tests", "examples", "scripts"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@dataclass(frozen=True)
class Import:
    """One imported module: its absolute name, and whether it was written relative to the file."""

    source: Path
    line: int
    module: str
    relative: bool

    def __str__(self) -> str:
        return f"{self.source.relative_to(ROOT)}:{self.line} imports {self.module}"

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def room(self) -> str:
        """Room of the package that the module lies in."""
        return [*self.module.split("."), "__init__"][1]


def sources(*folders: str) -> list[Path]:
    """All Python files of some folders of the checkout."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def room_of(path: Path) -> str:
    """`model`, `engine`, …: the first name below the package."""
    return path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[Import]:
    """All imports of a file, also those inside functions and for type checkers; relative ones made absolute."""
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield Import(path, node.lineno, node.module or "", False)
                continue
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                inside = (ROOT / Path(*base, *name.split("."))).is_dir() or (ROOT / Path(*base, f"{name}.py")).is_file()
                yield Import(
                    path, node.lineno, ".".join([*base, name]) if node.module or inside else ".".join(base), True
                )


def all_imports(*folders: str) -> list[Import]:
    return [found for path in sources(*folders) for found in imports(path)]


def test_the_checkout_was_found() -> None:
    assert len(sources(PACKAGE)) > 40
    assert {room_of(path) for path in sources(PACKAGE)} == set(ALLOWED), "a new room needs its line in ALLOWED"
    assert sum(found.relative for found in all_imports(PACKAGE)) > 50


def test_imports_go_one_way() -> None:
    wrong = [
        str(found)
        for found in all_imports(PACKAGE)
        if found.top == PACKAGE and found.room not in ALLOWED[room_of(found.source)] | {room_of(found.source)}
    ]
    assert not wrong


def test_the_package_never_imports_what_is_built_upon_it() -> None:
    assert not [str(found) for found in all_imports(PACKAGE) if found.top in OUTSIDE]


def test_inside_the_package_imports_are_relative() -> None:
    assert not [str(found) for found in all_imports(PACKAGE) if found.top == PACKAGE and not found.relative]


def test_relative_imports_stay_inside_the_package() -> None:
    assert not [str(found) for found in all_imports(PACKAGE) if found.relative and found.top != PACKAGE]


def test_engine_and_model_need_torch_numpy_einops_and_safetensors_only() -> None:
    allowed = NUMERIC | {PACKAGE} | set(sys.stdlib_module_names)
    assert not [str(f) for f in all_imports(f"{PACKAGE}/engine", f"{PACKAGE}/model") if f.top not in allowed]


def test_training_imports_neither_nodes_nor_benchmarks() -> None:
    assert not [str(f) for f in all_imports("training") if f.top in {"nodes", "benchmarks", "tests"}]


def test_nothing_is_unpickled_or_evaluated() -> None:
    wrong = [str(found) for found in all_imports(PACKAGE, "training") if found.top in FORBIDDEN_MODULES]
    for path in sources(PACKAGE, "training"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and dangerous(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {ast.unparse(node.func)}")
    assert not wrong


def dangerous(call: ast.Call) -> bool:
    """eval, exec, torch.load, torch.save, and numpy's pickles; `model.eval()` is none of them."""
    name = ast.unparse(call.func)
    pickled = any(
        word.arg == "allow_pickle" and getattr(word.value, "value", True) is not False for word in call.keywords
    )
    loads = name in {"torch.load", "torch.save", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"}
    return pickled or loads or name in {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"}


@pytest.mark.parametrize(
    "statement",
    [
        "import duovsr_vs",
        "import duovsr_vs.filter",
        "import duovsr_vs.engine.options",
        "import duovsr_vs.model.registry",
        "import duovsr_vs.cli.main",
    ],
)
def test_nothing_loads_torch_before_it_is_needed(statement: str) -> None:
    check = "import sys; assert not {'torch', 'numpy', 'cv2', 'av'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{statement}; {check}"], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["upscale", "--help"], ["--version"]])
def test_help_loads_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom duovsr_vs.cli.main import main\n"
        f"sys.argv = ['duovsr', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'cv2', 'av'} & set(sys.modules)\nprint('reached')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60, capture_output=True, text=True
    )
    assert result.stdout.endswith("reached\n")
    assert len(result.stdout) > len("reached\n") + 5
