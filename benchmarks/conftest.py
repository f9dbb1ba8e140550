import pytest

from numfuse import native


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    """The reference's median time divided by native's, a line for each contest, below pytest-benchmark's tables."""
    medians = {}
    for bench in config._benchmarksession.benchmarks:
        if bench:
            medians.setdefault(bench.group, {})[bench.params["backend"]] = bench.stats.median
    medians = {contest: times for contest, times in medians.items() if "reference" in times}
    if medians:
        terminalreporter.section("time of the reference divided by native's")
        width = max(map(len, medians))
        terminalreporter.write_line(" " * width + "".join(f"{isa:>10}" for isa in native.isas()))
        for contest, times in medians.items():
            ratios = [f"{times['reference'] / times[isa]:.1f}x" if isa in times else "" for isa in native.isas()]
            terminalreporter.write_line(f"{contest:{width}}" + "".join(f"{ratio:>10}" for ratio in ratios))
