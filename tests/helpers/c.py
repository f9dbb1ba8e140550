"""How C is compiled: by what setup.py says, which cannot be imported without building."""

import ast

from helpers.paths import ROOT

# Not the optimisation level of setup.py: another order of instructions must give the same bits too.
FLAGS = ["-O2", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-I", ROOT / "csrc"]
SETUP = ast.parse((ROOT / "setup.py").read_text())
X86_64 = next(
    ast.literal_eval(node.value)
    for node in SETUP.body
    if isinstance(node, ast.Assign) and node.targets[0].id == "X86_64"
)
ISA_FLAGS = {"neon": []} | X86_64
