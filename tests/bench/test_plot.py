"""Pictures: which are drawn, and what is in them; how they look is for people to judge."""

import xml.etree.ElementTree

import pytest
from helpers.made_up_runs import PEERS, SECONDS, failed, make_row, make_run, make_step

from numfuse.bench import plot
from numfuse.bench.results import RIVALS

STEP = make_step()


def curve(case="adam_step", seconds=SECONDS, threads=(1,)):
    """Rows of four sizes, twice as fast with twice the threads."""
    rows = []
    for count in threads:
        for size in (2**10, 2**14, 2**18, 2**22):
            times = {name: time * size / 2**20 / count for name, time in seconds.items()}
            rows.append(make_row(case, [size], times, threads=count, data="L2" if size < 2**16 else "L3"))
    return rows


def figures(*rows):
    return dict(plot.figures(make_run(*rows)))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_both_kinds_of_files_are_written(tmp_path):
    paths = plot.draw(tmp_path / "new" / "plots", make_run(*curve("dropout_forward p=0.5")))
    assert [path.name for path in paths] == ["dropout_forward-p=0.5.png", "dropout_forward-p=0.5.svg"]
    assert {*paths} == {*(tmp_path / "new" / "plots").iterdir()}
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert xml.etree.ElementTree.parse(paths[1]).getroot().tag.endswith("svg")


def test_a_picture_for_each_thing():
    busy = make_row("adam_step", [2**22], busy=1)
    norm, small = make_row("batch_norm_forward NCHW", [8, 4, 2, 2]), make_row("adam_step", [10, 16])
    rows = [*curve(), *curve("dropout_forward p=0.2"), norm, STEP, small, make_row("sgd_step"), busy,
            failed(make_row("rmsprop_step"))]
    assert [*figures(*rows)] == ["adam_step", "dropout_forward-p=0.2", "batch_norm_forward-NCHW", "sgd_step",
                                 "small-tensors", "training-steps", "load-optimizers"]


@pytest.mark.parametrize("name", ["dtype", "isa"])
def test_what_differs_is_not_mixed(name):
    other = [row | {name: "other"} for row in curve()]
    found = figures(*curve(), *other)
    assert [*found] == [f"adam_step-{curve()[0][name]}", "adam_step-other"]


def test_curves_show_speed_and_time_of_every_rival_and_thread_count():
    figure = figures(*curve(seconds=PEERS, threads=(1, 2)))["adam_step"]
    speed, time, gain = figure.axes
    native = [line for line in speed.lines if line.get_color() == plot.COLORS["native"]]
    # 2 ms for 2^20 elements are 0.52 Gelement/s, and 1.9 ns an element.
    assert [line.get_linestyle() for line in native] == ["-", "--"]
    for line, count in zip(native, (1, 2)):
        assert [*line.get_xdata()] == [2**10, 2**14, 2**18, 2**22]
        assert [*line.get_ydata()] == pytest.approx([2**20 / 2e-3 / 1e9 * count] * 4)
    (slow, _) = [line for line in time.lines if line.get_color() == plot.COLORS["textbook"]]
    assert [*slow.get_ydata()] == pytest.approx([24e-3 / 2**20 * 1e9] * 4)
    assert legend(figure) == ["numfuse", "NumPy", "in place", "torch", "torch foreach", "torch fused", "jax",
                              "numba", "beyond the limit:\nstreaming the same bytes", "1 thread", "2 threads"]
    assert [*gain.lines[-1].get_ydata()] == pytest.approx([1, 2])
    assert "Gelement/s" in speed.get_ylabel() and "ns" in time.get_ylabel() and gain.get_xlabel() == "threads"


def test_two_sizes_are_bars():
    figure = figures(*curve()[:2])["adam_step"]
    (axes,) = figure.axes
    assert not axes.lines and len(axes.patches) == 2 * 3
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1 Ki elements", "16 Ki elements"]
    assert figures(*curve()[:3])["adam_step"].axes[0].lines


def test_the_limit_of_curves_is_the_faster_one():
    (speed, _) = figures(*curve())["adam_step"].axes
    (line,) = [line for line in speed.lines if line.get_color() == plot.LIMIT]
    assert [*line.get_ydata()] == pytest.approx([2**20 / 1.5e-3 / 1e9] * 4)


def test_where_arrays_leave_the_cache_is_marked():
    (speed, _) = figures(*curve())["adam_step"].axes
    assert [text.get_text() for text in speed.texts] == ["in L2 | beyond"]
    assert 2**14 < speed.texts[0].xy[0] < 2**18
    unknown = [row | {"data": None} for row in curve()]
    assert not figures(*unknown)["adam_step"].axes[0].texts


def test_bars_have_the_length_of_speed_or_time():
    shape = [1024, 1024]
    found = figures(make_row("batch_norm_forward", shape), STEP, make_row("adam_step"))
    for name in ("batch_norm_forward", "adam_step"):  # of which there is but one size
        (axes,) = found[name].axes
        speeds = [2**20 / seconds / 1e9 for seconds in (2e-3, 24e-3, 5e-3)]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(speeds)
    (axes,) = found["training-steps"].axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([1e-3, 3e-3, 5e-3])
    assert [text.get_text() for text in axes.texts] == ["1.00 ms", "3.00 ms", "5.00 ms"]
    assert axes.collections[0].get_segments()[0][0][0] == pytest.approx(0.8e-3)
    assert legend(found["training-steps"])[-1] == "limit: the matrix products alone"


def test_each_training_step_has_a_panel_and_each_thread_count_a_group():
    rows = [STEP | {"case": case, "threads": threads} for threads in (1, 2) for case in "abcd"]
    figure = figures(*rows)["training-steps"]
    assert [axes.get_title() for axes in figure.axes] == [f"{case}: 784-256-10 batch 128" for case in "abcd"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1 thread", "2 threads"]


@pytest.mark.parametrize("group", plot.FEW_SIZES)
def test_groups_with_few_sizes_have_a_picture_with_a_panel_for_each_case(group):
    rows = [make_row(case, shape, group=group) for case in "ab" for shape in ([1 << 16], [128, 256])]
    (name, figure), = figures(*rows).items()
    assert name == group and [axes.get_title() for axes in figure.axes] == ["a", "b"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["128x256", "64 Ki elements"]


def test_load_is_each_rivals_own_slow_down():
    busy = make_row(seconds={"native": 3e-3, "textbook": 24e-3, "torch": 1e-3}, busy=1)
    (axes,) = figures(make_row(), busy)["load-optimizers"].axes
    assert [text.get_text() for text in axes.texts] == ["1.50x", "1.00x", "?"]
    assert [*figures(busy)] == []


def test_every_rival_has_its_own_colour_and_marker():
    for looks in (plot.COLORS, plot.MARKERS):
        assert [*looks] == ["native", *RIVALS] and len({*looks.values()}) == len(looks)


def test_the_machine_stands_below(tmp_path):
    (_, svg) = plot.draw(tmp_path, make_run(make_row()))
    assert "<!-- A Fast CPU, Linux x86_64; numfuse 0.1.0" in svg.read_text()


@pytest.mark.parametrize("rows", [[], [failed(make_row())], [make_row(seconds={"textbook": 1.0})]],
                         ids=["no rows", "failed", "without native"])
def test_nothing_to_draw_is_no_picture(tmp_path, rows):
    assert plot.draw(tmp_path, make_run(*rows)) == []


@pytest.mark.parametrize("rows", [curve(), [make_row("adam_step", [10, 16])]], ids=["curves", "bars"])
def test_no_limit_is_no_entry_in_the_legend(rows):
    rows = [make_row(row["case"], row["shape"], {"native": 1e-3, "textbook": 2e-3}) for row in rows]
    (figure,) = figures(*rows).values()
    assert legend(figure) == ["numfuse", "NumPy"]
