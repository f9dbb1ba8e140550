"""Builds `numfuse.native`: one static library for each instruction set, and the extension that holds them all.

`python setup.py build_ext --inplace` is the development loop: only what changed is compiled again. After a
change of compiler or flags, add `--force` to it, and to a `build_clib` before it.
NUMFUSE_CFLAGS adds compiler and linker flags, such as `-fsanitize=address,undefined -g`; without it the
extension is stripped.
"""

import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import setuptools
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

if int(setuptools.__version__.split(".")[0]) < 77:  # older ones stumble over pyproject.toml
    sys.exit(f"numfuse: building needs setuptools 77, found {setuptools.__version__}: pip install -U setuptools")

# With the bound on peeling gcc writes out fewer of the rests that loops over vectors leave: a tenth less code, and no
# slower. Not so at 512 bits, where long rests would become loops over single elements.
X86_64 = {
    "baseline": ["--param=max-completely-peeled-insns=100"],
    "avx2": ["-mavx2", "-mfma", "-mbmi2", "--param=max-completely-peeled-insns=100"],
    "avx512": [
        "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mbmi2", "-mprefer-vector-width=256",
        "--param=max-completely-peeled-insns=100",
    ],
    "avx512wide": [
        "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mbmi2", "-mprefer-vector-width=512",
        "-Wno-unused-function",
    ],
}  # fmt: skip
INSTRUCTION_SETS = {"x86_64": X86_64, "amd64": X86_64, "aarch64": {"neon": []}, "arm64": {"neon": []}}
ISAS = INSTRUCTION_SETS.get(platform.machine().lower(), {"baseline": []})

EXTRA = shlex.split(os.environ.get("NUMFUSE_CFLAGS", ""))
CFLAGS = [
    "-O3", "-g0", "-std=c11", "-fvisibility=hidden", "-fopenmp-simd",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Werror=implicit-function-declaration", *EXTRA,
]  # fmt: skip
LDFLAGS = ["-pthread", *(EXTRA or (["-Wl,-s"] if sys.platform == "linux" else []))]
HEADERS = sorted(path.as_posix() for path in Path("csrc").rglob("*.h"))
FORBIDDEN = {
    "-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-fassociative-math", "-ffinite-math-only",
    "-freciprocal-math", "-ffp-model=fast",
}  # fmt: skip


def check_toolchain():
    """Stop on flags that break the promise of the same bits, and where there is no compiler."""
    for variable in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED", "NUMFUSE_CFLAGS"):
        for flag in shlex.split(os.environ.get(variable) or sysconfig.get_config_var(variable) or ""):
            if flag in FORBIDDEN:
                sys.exit(
                    f"numfuse: {variable} contains {flag}, which changes results and, when linking, the "
                    "floating-point mode of the whole process: remove it and build again"
                )
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if os.name != "posix":
        sys.exit("numfuse: building needs a POSIX system (Linux or macOS); on Windows use WSL")
    if shutil.which(compiler) is None:
        sys.exit(
            f"numfuse: the C compiler {compiler!r} was not found. Install one (Debian, Ubuntu: `apt install gcc "
            "python3-dev`; macOS: `xcode-select --install`) or name another in the environment variable CC"
        )


class BuildLibraries(build_clib):
    def run(self):
        check_toolchain()
        super().run()

    def build_libraries(self, libraries):
        """Build all at once: each is one large file."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(super().build_libraries, [[library] for library in libraries]))


class BuildExtension(build_ext):
    def run(self):
        # Editable and in-place builds run only this command, without the libraries it links.
        self.run_command("build_clib")
        super().run()


ENTRY = re.compile(r"(TYPED_KERNEL|KERNEL|COMPOSITE)\((\w+), (\w+), (?:\w+, )?(\d+)\)")
BINDINGS = Path("src/numfuse/bindings")


def write_bindings():
    """Make bindings/kernel_list.pxi and bindings/operations.pxi from csrc/kernel_list.h."""
    kernels, costs = [], {}  # costs: name -> (operation, cost)
    for number, line in enumerate(Path("csrc/kernel_list.h").read_text().splitlines(), 1):
        if entry := ENTRY.fullmatch(line):
            macro, name, operation, cost = entry.groups()
            kernels += [name] * (macro != "COMPOSITE")
            costs[name] = operation, int(cost)
        elif re.match(r"\s*(TYPED_KERNEL|KERNEL|COMPOSITE)\b", line):
            sys.exit(f"numfuse: csrc/kernel_list.h, line {number}: {line!r} is not written like the other entries")
    operations = tuple(dict.fromkeys(operation for operation, _ in costs.values()))
    for operation in operations:
        if not (BINDINGS / f"{operation}.pxi").is_file():
            sys.exit(f"numfuse: {BINDINGS}/{operation}.pxi is missing: csrc/kernel_list.h has the operation {operation}")
    write(
        BINDINGS / "kernel_list.pxi", 'cdef extern from "kernels.h" nogil:', "    ctypedef struct kernel_table:",
        "        const char *isa", *(f"        kernel {name}" for name in kernels),
    )  # fmt: skip
    write(
        BINDINGS / "operations.pxi", f"_OPERATIONS = {operations}", f"_COSTS = {costs}",
        *(f'include "{operation}.pxi"' for operation in operations),
    )  # fmt: skip


def write(path, *lines):
    """Write a file if its text has changed: a newer one would be compiled again."""
    text = "\n".join(["# Made by setup.py from csrc/kernel_list.h.", *lines, ""])
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


libraries = [
    (
        f"numfuse_{isa}",
        {
            "sources": [f"csrc/isa/{isa}.c"],
            "cflags": [*CFLAGS, *flags],
            "obj_deps": {"": [*HEADERS, "setup.py"]},
        },
    )
    for isa, flags in ISAS.items()
]
native = Extension(
    "numfuse.native",
    ["src/numfuse/native.pyx", "csrc/buffers.c", "csrc/pool.c", "csrc/dispatch.c"],
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    depends=[*HEADERS, *(f"csrc/isa/{isa}.c" for isa in ISAS), "setup.py"],
    extra_compile_args=["-O2" if flag == "-O3" else flag for flag in CFLAGS],  # smaller; the loops are in the libraries
    extra_link_args=LDFLAGS,
)
write_bindings()
setup(
    libraries=libraries,
    ext_modules=cythonize([native], language_level=3),
    cmdclass={"build_clib": BuildLibraries, "build_ext": BuildExtension},
)
