"""The house keeps its order: an operation is found by its name in every folder, and rooms know only who is below."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from numfuse import native, nn, optim, reference
from numfuse.nn.loss import Loss

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/numfuse"
OPERATIONS = native.operations()
STEPS = [name.removesuffix("_step") for name in reference.__all__ if name.endswith("_step")]
FILES = [
    "csrc/kernels/{}.h", "src/numfuse/bindings/{}.pxi", "src/numfuse/reference/{}.py",
    "src/numfuse/bench/operations/{}.py", "tests/kernels/test_{}.py",
]  # fmt: skip
STEP_FILES = ["src/numfuse/optim/{}.py", "tests/optim/test_{}.py"]
# It measures the machine's memory: the harness's limit, with nothing to define or to compare.
MEASURES = {"stream": ["csrc/kernels/{}.h", "src/numfuse/bindings/{}.pxi", "tests/kernels/test_{}.py"]}
# What several operations share, beside their files.
SHARED = {
    "src/numfuse/bindings/*.pxi": {
        "checks", "isas", "kernel_list", "memory", "operations", "overlap", "run", "tensor_lists", "threads",
    },
    "src/numfuse/bench/operations/*.py": {"__init__", "step", "batch_norm_numba"},
    "src/numfuse/reference/*.py": {"__init__", "philox", "regularize", "rounding"},
}  # fmt: skip
# Rooms, and those that each may import from.
KNOWS = {
    "native": set(),
    "checks": set(),
    "files": set(),
    "reference": set(),
    "backend": {"native"},
    "nn": {"native", "backend", "checks"},
    "optim": {"native", "backend", "checks"},
    "data": {"checks", "files"},
    "train": {"nn", "optim", "data", "checks", "files"},
    "bench": {"native", "reference", "nn", "optim", "data", "train", "checks", "files", "__version__"},
    "cli": {"native", "reference", "nn", "optim", "data", "train", "bench", "checks", "files", "numfuse"},
    "__init__": {"native", "nn", "optim"},
    "__main__": {"cli"},
}
# Where libraries beside NumPy may be imported: in functions, and at the top of files that are imported where they are
# needed.
LIBRARIES = {"data", "bench", "cli"}
IMPORTED_LATE = {"bench/page.py", "bench/plot.py", "cli/train_report.py", "bench/peers/jax.py", "bench/peers/keras.py",
                 "bench/peers/numba.py", "bench/peers/sklearn.py", "bench/peers/torch.py"}

pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the source tree")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_has_its_files(operation):
    patterns = MEASURES.get(operation, FILES) + STEP_FILES * (operation in STEPS)
    missing = [path.format(operation) for path in patterns if not (ROOT / path.format(operation)).is_file()]
    assert not missing, f"the operation {operation} lacks {', '.join(missing)}"


@pytest.mark.parametrize("pattern", SHARED)
def test_a_file_is_of_an_operation_in_the_list(pattern):
    strangers = {path.stem for path in ROOT.glob(pattern)} - SHARED[pattern] - set(OPERATIONS)
    assert not strangers, f"csrc/kernel_list.h does not name {strangers}, which have files {pattern}"


def test_a_kernel_is_named_after_its_operation():
    entries = re.findall(r"^[A-Z_]+\((\w+), (\w+),", (ROOT / "csrc/kernel_list.h").read_text(), re.MULTILINE)
    operations = tuple(dict.fromkeys(operation for _, operation in entries))
    assert operations == OPERATIONS, "csrc/kernel_list.h has changed: build again"
    for name, operation in entries:
        assert f"{name}_".startswith(f"{operation}_"), f"csrc/kernel_list.h: {name} must begin with {operation}"


def test_every_kernel_file_is_included():
    files = [*(ROOT / "csrc/kernels").glob("*.h"), ROOT / "csrc/template.h"]
    text = "\n".join(map(Path.read_text, files))
    included = set(re.findall(r'^#include "(?:kernels/)?(\w+\.h)"', text, re.MULTILINE))
    for path in (ROOT / "csrc/kernels").glob("*.h"):
        assert path.name in included, f"csrc/kernels/all.h does not include {path.name}"


def functions(module):
    return {name for name, value in vars(module).items() if inspect.isroutine(value) and not name.startswith("_")}


def test_reference_has_every_kernel_of_native():
    kernels = {name for name in functions(native) if name.startswith(OPERATIONS)} - set(MEASURES)
    missing, extra = kernels - set(reference.__all__), set(reference.__all__) - kernels
    assert not missing, f"src/numfuse/reference/__init__.py does not export {missing}"
    assert not extra, f"native has no {extra}: src/numfuse/bindings/ lacks it, or csrc/kernel_list.h its operation"


@pytest.mark.parametrize("name", reference.__all__)
def test_reference_and_native_take_the_same_arguments(name):
    ours, twins = (list(inspect.signature(getattr(module, name)).parameters) for module in (native, reference))
    if name.endswith("_step"):  # the twins hand what every step has on to reference/regularize.py
        assert twins.pop() == "regularization"
        del ours[len(twins) :]
    assert ours == twins


def test_the_stub_has_every_function_with_its_arguments():
    nodes = ast.parse((PACKAGE / "native.pyi").read_text()).body
    stub = {node.name: stub_arguments(node.args) for node in nodes if isinstance(node, ast.FunctionDef)}
    missing, extra = functions(native) - stub.keys(), stub.keys() - functions(native)
    assert not missing, f"src/numfuse/native.pyi lacks the signature of {missing}"
    assert not extra, f"src/numfuse/native.pyi has {extra}, which native does not"
    for name, arguments in stub.items():
        parameters = inspect.signature(getattr(native, name)).parameters.values()
        wanted = [(each.name, each.kind == each.KEYWORD_ONLY, each.default is not each.empty) for each in parameters]
        assert arguments == wanted, f"src/numfuse/native.pyi: the arguments of {name}"


def stub_arguments(arguments):
    """(name, whether by keyword alone, whether there is a default) of each argument in a stub."""
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    found = [(each.arg, False, default is not None) for each, default in zip(arguments.args, defaults, strict=True)]
    return found + [(each.arg, True, default is not None)
                    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]


def classes(room, is_public):
    """The classes that the files of a room define for users: {name: file}."""
    found = {}
    for path in sorted((PACKAGE / room).rglob("*.py")):
        module = importlib.import_module(".".join(["numfuse", *path.relative_to(PACKAGE).with_suffix("").parts]))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and is_public(getattr(module, node.name)):
                found[node.name] = path
    return found


@pytest.mark.parametrize("room, is_public", [
    (nn, lambda cls: issubclass(cls, nn.Module) and cls._leaf),
    (nn, lambda cls: issubclass(cls, Loss) and cls.kernel_names),
    (optim, lambda cls: issubclass(cls, optim.Optimizer) and hasattr(cls, "kernel_name")),
], ids=["layers", "losses", "optimizers"])
def test_a_room_exports_its_classes(room, is_public):
    name = room.__name__.removeprefix("numfuse.")
    found = classes(name, is_public)
    assert found
    for class_name, path in found.items():
        assert class_name in room.__all__, f"src/numfuse/{name}/__init__.py does not export {class_name} of {path.name}"


@pytest.mark.parametrize("room", [nn, optim], ids=["nn", "optim"])
def test_readme_names_every_class(room):
    text = (ROOT / "README.md").read_text()
    shortened = {f"{name}{n}d" for name in ("BatchNorm", "Dropout") for n in (2, 3)}  # BatchNorm1d/2d/3d
    names = {name for name in room.__all__ if inspect.isclass(getattr(room, name))}
    missing = {name for name in names - shortened - {"Module", "Optimizer"} if not re.search(rf"\b{name}\b", text)}
    assert not missing, f"README.md does not name {missing}"


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """("numfuse", room) or (library, None), and whether outside of functions, of every import in a file."""
    tree = ast.parse(path.read_text())
    package = ("numfuse", *path.relative_to(PACKAGE).parts[:-1])
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names = [".".join([*module, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "numfuse":
                yield "numfuse", parts[1] if len(parts) > 1 else "numfuse", id(node) not in inside
            else:
                yield parts[0], None, id(node) not in inside


FILES_OF_PACKAGE = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES_OF_PACKAGE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_knows_only_those_below(path):
    room = room_of(path)
    assert room in KNOWS, f"{path} stands at the top of the package: put it into a room, or name it in KNOWS"
    for library, other, at_top in imports(path):
        if library == "numfuse":
            assert other == room or other in KNOWS[room], f"{room} must not import {other}"
        elif library not in sys.stdlib_module_names and library != "numpy":
            assert room in LIBRARIES, f"{room} must not import {library}"
            late = path.relative_to(PACKAGE).as_posix() in IMPORTED_LATE
            assert late or not at_top, f"{library} must be imported where it is used"


@pytest.mark.parametrize(
    "path", [PACKAGE / "native.pyx", *sorted((PACKAGE / "bindings").glob("*.pxi"))], ids=lambda path: path.name)
def test_native_imports_nothing_of_the_package(path):
    imported = re.findall(r"^\s*(?:from|import|cimport) +([\w.]+)", path.read_text(), re.MULTILINE)
    assert not {name for name in imported if name.startswith((".", "numfuse")) and name != ".kernels"}
