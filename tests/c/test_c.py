"""The C code without Python: known answers, equal bits, data races, another kind of CPU."""

import platform
import shutil
import subprocess

import pytest

from helpers.c import FLAGS, ISA_FLAGS, X86_64
from helpers.paths import ROOT

pytestmark = pytest.mark.slow
needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or not (ROOT / "csrc").is_dir(), reason="needs the C sources and a C compiler named cc"
)


def compile_c(target, sources, compiler="cc", flags=()):
    subprocess.run([compiler, *FLAGS, *flags, *sources, "-o", target, "-lm", "-pthread"], check=True)
    return target


def hashes(folder, isas, compiler="cc", runner=()):
    """{(kernel, type): {isa: hash}} of tests/c/hashes.c."""
    objects = []
    for isa in isas:
        objects.append(folder / f"{isa}.o")
        compile_c(objects[-1], ["-c", ROOT / f"csrc/isa/{isa}.c"], compiler, [*ISA_FLAGS[isa]])
    sources = [ROOT / "tests/c/hashes.c", ROOT / "csrc/dispatch.c", *objects]
    program = compile_c(folder / "hashes", sources, compiler, ["-static"] if runner else [])
    result = {}
    output = subprocess.run([*runner, program], check=True, capture_output=True, text=True).stdout
    for line in output.splitlines():
        isa, kernel, kind, value = line.split()
        result.setdefault((kernel, kind), {})[isa] = value
    return result


@needs_compiler
def test_philox_gives_the_known_answers(tmp_path):
    program = compile_c(tmp_path / "philox", [ROOT / "tests/c/philox.c"])
    with open(ROOT / "tests/c/philox4x32_kat.txt") as answers:
        done = subprocess.run([program], stdin=answers, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) >= 50


# In units in the last place, as csrc/kernels/math.h says.
MATH_ERRORS = {
    "exp": 1.2, "elu": 1.3, "log1p": 2, "log": 2, "bell": 2, "expm1": 2.5, "silu": 2.5, "sigmoid": 3, "rest": 3,
    "tanh": 3, "gelu": 4.2, "phi": 4.4,
}


@needs_compiler
def test_math_is_as_exact_as_it_says(tmp_path):
    program = compile_c(tmp_path / "math", [ROOT / "tests/c/math.c"], flags=["-fopenmp-simd"])
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    measured = [line.split() for line in done.stdout.splitlines()]
    assert {(name, "float") for name in MATH_ERRORS} <= {(name, kind) for name, kind, _ in measured}
    for name, kind, error in measured:
        assert 0.5 <= float(error) <= MATH_ERRORS[name], (name, kind)


@needs_compiler
@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.system() == "Darwin", reason="only x86-64 without macOS runs all tables"
)
def test_dispatch_knows_cpus(tmp_path):
    program = compile_c(tmp_path / "dispatch", [ROOT / "tests/c/dispatch.c"])
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def x86(tmp_path_factory):
    return hashes(tmp_path_factory.mktemp("x86"), [*X86_64])


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has several instruction sets")
def test_every_instruction_set_gives_the_same_bits(x86):
    assert len(x86) >= 44
    for name, by_isa in x86.items():
        assert len(set(by_isa.values())) == 1, name


@needs_compiler
@pytest.mark.skipif(
    platform.machine() != "x86_64" or not all(map(shutil.which, ["aarch64-linux-gnu-gcc", "qemu-aarch64"])),
    reason="needs aarch64-linux-gnu-gcc and qemu-aarch64 on x86-64",
)
def test_neon_gives_the_bits_of_x86(tmp_path, x86):
    arm = hashes(tmp_path, ["neon"], "aarch64-linux-gnu-gcc", ["qemu-aarch64"])
    assert {name: {*by_isa.values()} for name, by_isa in arm.items()} == {
        name: {*by_isa.values()} for name, by_isa in x86.items()
    }


@needs_compiler
@pytest.mark.parametrize("flags", [[], ["-fsanitize=thread", "-g"]], ids=["plain", "thread sanitizer"])
@pytest.mark.parametrize("name", ["buffers", "pool"])
def test_keeps_its_promises(tmp_path, name, flags):
    sources = [ROOT / f"tests/c/{name}.c", ROOT / f"csrc/{name}.c", tmp_path / "relax.c"]
    sources[-1].write_text('#include "kernels.h"\nvoid cpu_relax(void) {}\n')
    try:
        program = compile_c(tmp_path / name, sources, flags=flags)
    except subprocess.CalledProcessError:
        pytest.skip("this compiler has no thread sanitizer")
    # The sanitizer does not follow a fork of a process with threads: it runs without that part.
    done = subprocess.run([program, *flags[:1]], capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel's address layout")
    assert done.returncode == 0, done.stdout + done.stderr
