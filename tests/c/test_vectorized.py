"""No hot loop is scalar: the machine code that gcc makes of the kernels for AVX2 and AVX-512, read loop by loop.

A function of csrc/kernels/ is inlined into many loops. A loop over elements becomes one on vectors and, where its
length may be no multiple of theirs, one for the rest: scalar loops alone would be more than those on vectors.
"""

import ast
import platform
import re
import shutil
import subprocess
from collections import Counter

import pytest

from helpers.c import ISA_FLAGS, SETUP
from helpers.paths import ROOT

# What is computed once a call, a tensor, a channel, a row or a block: one number at a time; and all `<name>_step`.
ONCE = {
    "square_limit", "root_eps", "integer_power", "dropout_scale", "draw_mask", "store_mask", "shift_of",
    "shift_of_run", "make_affine", "inference_affine", "finish_moments", "finish_sums", "gradient_channel", "sum_lanes",
    "grad_norm_merge", "logit_rows", "logit_columns", "loss_value", "make_regularizer", "limit_row",
    "sums_of_short_rows", "merge",
}  # fmt: skip
# What is computed of every element: some of it, to see that the loops of these are found.
HOT = {
    "sgd_range", "rmsprop_moments", "rmsprop_denominators", "rmsprop_quotients", "adam_moments",
    "adam_denominators", "adam_quotients", "adagrad_range", "lion_range", "regularize_grads", "regularize_params", "averaged",
    "sum_of_squares", "keep", "forward_word", "add_rows", "bias_forward", "bias_merge_sums", "add_moments",
    "add_products", "normalize_run", "gradient_run", "shift_of_rows", "add_row_moments", "add_row_products",
    "normalize_values_of_row", "gradient_row", "exp_row", "exp_columns", "row_max", "column_max", "sum",
    "cross_entropy_blocks", "weighted_logits", "weighted_columns", "weigh_rows", "weigh_grad", "row_weights",
    "element", "element_block", "mse_term", "huber_term", "bce_term", "sigmoid", "tanh", "activation",
    "activation_slope", "differentiate_rows", "expm1", "exp_quotient", "silu", "gelu", "normal_cdf", "normal_parts",
    "softmax_row", "softmax_columns", "softmax_gradient_row", "softmax_gradient_short", "dot",
}  # fmt: skip
# Of these, what the table of wide vectors takes from that of 256 bits.
NARROW = {"forward_word", "add_rows", "bias_forward", "bias_merge_sums"}
# Of these, what gcc writes out there vector by vector, and leaves a scalar rest of.
WRITTEN_OUT = {"softmax_columns"}
# Of these, what has loops of constant length only, which leave no rest.
WHOLE = {"forward_word"}
# The registers that its loops are to use.
VECTORS = {"avx2": "ymm", "avx512": "ymm", "avx512wide": "zmm"}
ARITHMETIC = re.compile(r"v?(?:add|sub|mul|div|sqrt|min|max)([ps])[sd]")
DEFINITION = re.compile(r"(?:static|INLINE)\b.*?(?:TYPED\((\w+)\)|\b(?!TYPED?\b)(\w+))\(")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    platform.machine() != "x86_64" or not all(map(shutil.which, ["gcc", "objdump"])) or not (ROOT / "csrc").is_dir(),
    reason="needs the C sources, gcc and objdump on x86-64",
)]


def functions_by_line():
    """{(file, line): the function of csrc/kernels/ that it belongs to}."""
    result = {}
    for path in (ROOT / "csrc/kernels").glob("*.h"):
        name = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if found := DEFINITION.match(line):
                name = found[1] or found[2]
            result[path.name, number] = name
    return result


def disassembled(program):
    """Of each function of the machine code: its name, and its lines (address, instruction, operands, (file, line))."""
    output = subprocess.run(["objdump", "-dl", program], check=True, capture_output=True, text=True).stdout
    place = None
    for part in re.split(r"^[0-9a-f]+ <(?=.*>:$)", output, flags=re.MULTILINE)[1:]:
        name, code = part.split(">", 1)[0], []
        for line in part.splitlines():
            if found := re.match(r"(?:\S*/)?(\w+\.[ch]):(\d+)", line):
                place = found[1], int(found[2])
            elif found := re.match(r" +([0-9a-f]+):\t[0-9a-f ]+\t(\S+) *(.*)", line):
                code.append((int(found[1], 16), found[2], found[3], place))
        yield name, code


def loops(code):
    """The parts of the code between a jump back and its target that share nothing with a shorter one."""
    spans = set()
    for address, instruction, operands, _ in code:
        found = re.match(r"[0-9a-f]+(?= <)", operands)
        if instruction[0] == "j" and found and code[0][0] <= int(found[0], 16) <= address:
            spans.add((int(found[0], 16), address))
    for first, last in spans:
        if not any(f <= last and first <= l and l - f < last - first for f, l in spans):
            loop = [line for line in code if first <= line[0] <= last]
            if next(instruction for _, instruction, *_ in loop if instruction[0] in "jr") != "ret":  # the function's end
                yield loop


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    flags = next(
        [flag.value for flag in ast.walk(node.value) if isinstance(flag, ast.Constant)]
        for node in SETUP.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "CFLAGS"
    )
    folder, running = tmp_path_factory.mktemp("vectorized"), {}
    for isa in VECTORS:
        source, target = ROOT / f"csrc/isa/{isa}.c", folder / f"{isa}.o"
        command = ["gcc", *flags, "-gdwarf-4", "-g1", *ISA_FLAGS[isa], "-I", ROOT / "csrc", "-c", source, "-o", target]
        running[target] = subprocess.Popen(command)
    assert [process.wait() for process in running.values()] == [0] * len(VECTORS)
    return {target.stem: list(disassembled(target)) for target in running}


@pytest.mark.parametrize(
    ("isa", "kind"), [(isa, kind) for isa in VECTORS for kind in ("float", "double") if (isa, kind) != ("avx512wide", "double")]
)
def test_no_hot_loop_is_scalar(programs, isa, kind):
    functions = functions_by_line()
    hot, once = (HOT - NARROW - WRITTEN_OUT, ONCE | WRITTEN_OUT) if isa == "avx512wide" else (HOT, ONCE)
    vectorized, wrong = set(), {}
    for kernel, code in programs[isa]:
        if f"_{kind}" not in kernel:
            continue
        packed, scalar = Counter(), Counter()
        for loop in loops(code):
            found, on_vectors = {"p": set(), "s": set()}, set()
            for _, instruction, operands, place in loop:
                name = functions.get(place) or kernel.removesuffix(f"_{kind}_task")
                if "ymm" in operands or "zmm" in operands:
                    on_vectors.add(name)
                arithmetic = ARITHMETIC.fullmatch(instruction)
                if arithmetic and (arithmetic[1] == "s" or VECTORS[isa] in operands):
                    found[arithmetic[1]].add(name)
            vectorized.update(found["p"])
            packed.update(on_vectors if found["p"] else ())
            scalar.update(found["s"] if not on_vectors else ())
        for name, count in scalar.items():
            if name not in once and not name.endswith("_step") and count > (0 if name in WHOLE else packed[name]):
                wrong[kernel, name] = count
    assert not wrong
    assert hot <= vectorized, hot - vectorized
