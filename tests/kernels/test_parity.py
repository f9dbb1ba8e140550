"""Same bits: every kernel against its reference, and against itself on other instruction sets and threads."""

import math

import numpy as np
import pytest

from helpers.cases import CASES, merge
from helpers.parity import (
    ABOVE_THRESHOLD, ODD_SIZES, SIZES, assert_native_is_always_the_same, assert_native_is_the_reference, case_arguments,
    each, each_dtype, outcome,
)
from numfuse import native

LOSSES = [case for case in CASES if case.group == "losses"]
ACTIVATIONS = [case for case in CASES if case.group == "activations"]
SAME_BITS = [case for case in CASES if case.same_bits]
OTHERS = [case for case in CASES if case not in [*SAME_BITS, *LOSSES, *ACTIVATIONS]]
STEPS = [case for case in CASES if case.kernel.endswith("_step")]


@each(SAME_BITS)
@each_dtype
@pytest.mark.parametrize("size", [*SIZES, ABOVE_THRESHOLD])
def test_same_bits(case, dtype, size):
    assert_native_is_the_reference(case, case_arguments(case, size, dtype), counts=(1, 2, 3))


@each(SAME_BITS)
@each_dtype
@pytest.mark.parametrize("size", SIZES)
def test_rare_numbers_in_misaligned_arrays(case, dtype, size):
    assert_native_is_the_reference(case, case_arguments(case, size, dtype, special=True), offset=1)


@each(STEPS)
@each_dtype
@pytest.mark.parametrize("change", [
    {"maximize": True}, {"grad_scale": 0.3}, {"grad_scale": math.inf}, {"weight_decay": 1e-30}, {"lr": 1e-30},
    {"steps": 0},
], ids=str)
def test_other_options(case, dtype, change):
    arguments = case_arguments(case, 1003, dtype, special=True) | change
    arguments["steps"] = np.array(arguments["steps"], dtype=np.int64).reshape(1)
    assert_native_is_the_reference(case, arguments)


@each(STEPS)
@each_dtype
def test_lists_of_many_shapes_with_missing_gradients(case, dtype):
    arguments = merge([case_arguments(case, size, dtype) for size in [*SIZES, 1, 60]])
    arguments["steps"] += np.arange(len(arguments["steps"]))
    for name, arrays in arguments.items():
        if isinstance(arrays, list):
            arguments[name] = [*arrays[:-2], arrays[-2].reshape(()), arrays[-1].reshape(3, 4, 5)]
    arguments["grads"][2] = None
    assert_native_is_the_reference(case, arguments)


@each([*LOSSES, *ACTIVATIONS])
@each_dtype
@pytest.mark.parametrize("size", [*ODD_SIZES, ABOVE_THRESHOLD], ids=str)
def test_losses_and_activations(case, dtype, size):
    for special, offset in [(False, 0), (True, 1)]:
        arguments = case_arguments(case, size, dtype, special)
        if size != ABOVE_THRESHOLD or not special:
            assert_native_is_always_the_same(lambda: outcome(native, case, arguments, offset))


@each(OTHERS)
@each_dtype
@pytest.mark.parametrize("size", [*SIZES, ABOVE_THRESHOLD])
def test_others(case, dtype, size):
    arguments = case_arguments(case, size, dtype)
    for offset in (1,) if size == ABOVE_THRESHOLD else (0, 1):
        assert_native_is_always_the_same(lambda: outcome(native, case, arguments, offset))


@each(OTHERS)
@each_dtype
def test_others_of_rare_numbers(case, dtype):
    arguments = case_arguments(case, 1003, dtype, special=True)
    assert_native_is_always_the_same(lambda: outcome(native, case, arguments))
