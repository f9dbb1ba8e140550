from itertools import pairwise

from ...checks import integer
from ..checks import check_keys


class Schedule:
    """A value for every step. A subclass defines `__call__`; one with a memory of metrics the others, too.

    `needs_metric` says whether `observe` must be given one. Schedules do not change: what one has learnt is in the
    one that takes its place.
    """

    needs_metric = False

    def __call__(self, step, base):
        """The value after `step` steps, an int >= 0, of what was `base` in the beginning."""
        raise NotImplementedError

    def observe(self, step, metric):
        """The schedule from now on, `metric` having been reached at `step`; None where there is no metric."""
        return self

    def state_dict(self):
        """What was learnt from metrics, in numbers, lists and dicts."""
        return {}

    def with_state(self, state, name="state"):
        """The schedule with this `state_dict`; errors call it `name`."""
        check_keys(name, state, ())
        return self


def check_schedule(name, schedule):
    """TypeError unless it is a schedule."""
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{name} must be a schedule of numfuse.optim.schedules, was {schedule!r}")


def increasing(name, numbers):
    """`numbers`, a list of integers from 1 on that increase, as a tuple."""
    if not isinstance(numbers, (list, tuple)):
        raise TypeError(f"{name} must be a list of integers, was {numbers!r}")
    numbers = tuple(integer(f"{name}[{i}]", n, 1) for i, n in enumerate(numbers))
    for n, following in pairwise(numbers):
        if n >= following:
            raise ValueError(f"{name} must increase, was {list(numbers)}")
    return numbers
