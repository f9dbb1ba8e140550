"""Tables on the terminal and in Markdown: what stands in them, and that they fit."""

import io

import pytest
from helpers.made_up_runs import PEERS, SECONDS, failed, make_row, make_run, make_step
from rich.console import Console

from numfuse.bench import report, texts
from numfuse.bench.columns import choose, is_ahead

STEP = make_step()


def printed(run, width=130):
    console = Console(width=width, file=io.StringIO())
    report.print_report(console, run)
    return console.file.getvalue()


def tables(run):
    """The Markdown tables: lists of {heading: cell}."""
    found = [[]]
    for line in report.markdown(run).splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif found[-1]:
            found.append([])
    return [[dict(zip(table[0], cells)) for cells in table[2:]] for table in found if table]


def test_a_row_has_times_ratios_and_the_share_of_the_limit():
    ((row,),) = tables(make_run(make_row(seconds=PEERS)))
    assert row == {
        "case": "adam_step", "shape": "1 Mi", "NumPy": "24.0 ms", "numfuse": "2.00 ms", "+-": "5%",
        "vs NumPy": "12.0x", "vs in place": "2.50x", "vs torch": "4.00x", "vs torch foreach": "3.50x",
        "vs torch fused": "1.10x", "vs jax": "2.00x", "vs numba": "0.500x", "of limit": "75% L3",
        "data": "L3"}


@pytest.mark.parametrize(("arithmetic", "text"), [(0.2e-3, "75% L3"), (1.9e-3, "95% arithmetic"),
                                                  (2.1e-3, "105% arithmetic"), (2.2e-3, "not known")])
def test_the_limit_is_named(arithmetic, text):
    ((row,),) = tables(make_run(make_row(seconds=PEERS | {"arithmetic": arithmetic})))
    assert row["of limit"] == text


@pytest.mark.parametrize(("hot", "limit", "data"), [(True, "75% L2", "L2"), (False, "75% beyond L2", "beyond L2"),
                                                    (None, "75% memory", None)])
def test_runs_of_earlier_versions_are_read(hot, limit, data):
    row = make_row(hot=hot)
    del row["data"]
    ((row,),) = tables(make_run(row))
    assert row["of limit"] == limit and row.get("data") == data


def test_groups_have_tables_with_the_columns_they_fill():
    dropout, norm = make_row("dropout_forward p=0.5"), make_row("batch_norm_forward", [1024, 1024])
    run = make_run(STEP, dropout, norm, make_row())
    optimizers, norm, dropout, steps = tables(run)
    assert [optimizers[0]["case"], norm[0]["case"], dropout[0]["case"]] == [
        "adam_step", "batch_norm_forward", "dropout_forward p=0.5"]
    assert "vs sklearn" not in optimizers[0] and "data" not in steps[0] and "vs in place" not in steps[0]
    assert steps[0] | {"shape": "784-256-10 batch 128", "vs sklearn": "5.00x", "of limit": "80% products"} == steps[0]


def test_what_never_changes_is_said_once():
    text = report.markdown(make_run(make_row(), STEP))
    assert "Measured: avx2, float32, 1 thread." in text
    assert not {"dtype", "isa", "threads"} & set(tables(make_run(make_row(), STEP))[0][0])
    for name, value in (("dtype", "float64"), ("isa", "baseline"), ("threads", 2)):
        run = make_run(make_row(), STEP | {name: value})
        assert [table[0][name] for table in tables(run)] == [str(make_row()[name]), str(value)]


def test_rows_of_a_case_stand_together_by_size():
    rows = [make_row(case, [size], threads=threads) for threads in (1, 2) for size in (4096, 1024)
            for case in ("sgd_step", "adam_step")]
    (table,) = tables(make_run(*rows))
    assert [tuple(row[name] for name in ("case", "shape", "threads")) for row in table] == [
        (case, shape, threads) for case in ("sgd_step", "adam_step") for shape in ("1 Ki", "4 Ki")
        for threads in "12"]


@pytest.mark.parametrize(("shape", "text"), [
    ([5], "5"), ([1023], "1023"), ([1024], "1 Ki"), ([1536], "1536"), ([1536 << 10], "1536 Ki"),
    ([1 << 36], "64 Gi"), ([64, 1024], "64x1024"), ([0], "0"),
])
def test_shapes(shape, text):
    assert texts.shape_text(make_row(shape=shape)) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (1.234e-9, "1.23 ns"), (999.6e-9, "1.00 us"), (12.34e-6, "12.3 us"), (123.4e-3, "123 ms"),
    (4567, "4567 s"), (None, ""),
])
def test_times(seconds, text):
    assert texts.time_text(seconds) == text


def test_under_load_each_rival_is_compared_with_itself():
    busy = make_row(seconds={"native": 3e-3, "textbook": 24e-3, "torch": 9e-3}, busy=1)
    main, load = tables(make_run(make_row(), busy))
    assert len(main) == 1
    assert load == [{"case": "adam_step", "shape": "1 Mi", "numfuse": "1.50x", "NumPy": "1.00x"}]
    text = printed(make_run(make_row(), busy))
    assert "Under load" in text and "with 1 of the CPUs kept busy" in text


def test_several_threads_are_compared_with_one_on_a_quiet_machine():
    one, two = make_row(), make_row(seconds=SECONDS | {"native": 1e-3, "one thread": 1.6e-3}, threads=2)
    loaded = [make_row(seconds={"native": 3e-3}, busy=1),
              make_row(seconds={"native": 2e-3, "one thread": 5e-3}, threads=2, busy=1)]
    main, load = tables(make_run(one, two, *loaded))
    assert [row["vs one thread"] for row in main] == ["", "1.60x"]
    assert [row["numfuse of one thread"] for row in load] == ["", "1.25x"]
    assert [row["numfuse"] for row in load] == ["1.50x", "2.00x"] and "one thread" not in load[0]
    text = printed(make_run(one, two, *loaded), width=200)
    assert "\none thread: " in text and "\nnumfuse of one thread: " in text


def test_without_a_measurement_on_one_thread_threads_are_not_compared():
    rows = make_row(), make_row(threads=2), make_row(threads=2, busy=1)
    headings = {name for table in tables(make_run(*rows)) for name in table[0]}
    assert not {"vs one thread", "numfuse of one thread"} & headings


def test_a_failed_row_says_so():
    run = make_run(make_row(shape=[1024]), failed(make_row()))
    assert tables(run)[0][1]["numfuse"] == "out of memory"
    assert "out of memory" in printed(run)


def test_who_was_left_out_or_refused_is_named_once_a_reason():
    reason = 'not installed: pip install "numfuse[peers]"'
    rows = [make_row(shape=[size], left_out={"sklearn": "has no optimizers"}) for size in (1, 2)]
    rows[1]["refused"] = {"torch fused": "params differ by [0.3]"}
    run = make_run(*rows, left_out={"torch": reason})
    for text in (printed(run, width=200), report.markdown(run)):
        assert f"PyTorch took no part: {reason}" in text
        assert text.count("scikit-learn is left out: has no optimizers (adam_step)") == 1
        assert "torch fused was refused, and not timed: params differ by [0.3] (adam_step 2)" in text


@pytest.mark.parametrize("run", [
    make_run(), make_run(failed(make_row())), make_run(make_row(limits=[], data=None)),
    make_run(STEP, machine={"cpu": "A CPU"}, versions={}),
], ids=["no rows", "only failed", "no limit", "little known"])
def test_runs_with_little_in_them_are_reported(run):
    assert run["machine"]["cpu"] in printed(run) and run["command"] in report.markdown(run)


@pytest.mark.parametrize(("width", "shown", "hidden"), [
    (150, ["24.0 ms", "5%", "12.0x", "1.10x", "0.500x", "75% L3"], ["numba"]),
    (100, ["24.0 ms", "12.0x", "4.00x", "numba 0.500x", "75% L3"], ["2.50x"]),
    (80, ["12.0x", "numba 0.500x", "75% L3"], ["4.00x"]),
    (60, ["numba 0.500x", "75%"], ["12.0x", "24.0 ms", "L3"]),
])
def test_columns_are_chosen_by_the_width(width, shown, hidden):
    run = make_run(make_row("rmsprop_step centered momentum", seconds=PEERS),
                   make_row("batch_norm_forward NCHW", [128, 64, 112, 112], seconds=PEERS))
    lines = printed(run, width).splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if "2.00 ms" in line]
    assert [row.split()[0] for row in rows] == ["rmsprop_step", "batch_norm_forward"]
    for row in rows:
        assert all(text in row for text in shown) and not any(text in row for text in hidden)


def test_columns_without_room_are_named_with_a_remedy():
    run = make_run(make_row(seconds=PEERS))
    assert "Too wide" not in printed(run, 130)
    text = " ".join(printed(run, 60).split())
    assert "Too wide for this terminal: +-, data, vs torch foreach, vs in place, vs numba, vs torch fused" in text
    assert "wider terminal, --html FILE or --markdown" in text and "Closest rival: the fastest one, of all." in text


def test_the_closest_rival_is_the_fastest_of_all_but_ourselves():
    columns = {"case": ["a", "b", "c"], "vs one thread": ["0.5x", "", ""], "vs one group": ["0.6x", "", ""],
               "vs NumPy": ["5.00x", "1.50x", ""], "vs torch": ["0.980x", "", ""], "of limit": ["9%", "8%", ""]}
    chosen, left_out = choose(columns, 0, lambda heading, cells: 1)
    assert chosen == {"case": ["a", "b", "c"], "closest rival": ["torch 0.980x", "NumPy 1.50x", ""],
                      "of limit": ["9%", "8%", ""]}
    assert left_out == ["vs torch", "vs one group", "vs one thread", "vs NumPy", "which limit"]
    assert [is_ahead("closest rival", cell) for cell in chosen["closest rival"]] == [True, False, False]


def test_every_column_is_explained():
    run = make_run(make_row(seconds=PEERS), STEP, make_row(busy=1))
    text = printed(run, width=200)
    for name in ("NumPy", "numfuse", "+-", "vs", "in place", "foreach", "of limit", "data", "Under load"):
        assert f"\n{name}: " in text
    assert "in place: " not in printed(make_run(STEP))


def test_markdown_is_put_between_the_markers(tmp_path):
    file, run = tmp_path / "README.md", make_run(make_row())
    file.write_bytes(b"# A\r\n<!-- bench -->\nold\n<!-- /bench -->\nB \xc3\xa9\n")
    report.update_markdown(file, run)
    expected = f"# A\r\n<!-- bench -->\n{report.markdown(run)}<!-- /bench -->\nB é\n"
    assert file.read_bytes().decode() == expected
    report.update_markdown(file, run)
    assert file.read_bytes().decode() == expected


@pytest.mark.parametrize("text", ["", "<!-- bench -->", "<!-- /bench --><!-- bench -->",
                                  "<!-- bench --><!-- /bench --><!-- bench --><!-- /bench -->"])
def test_a_file_without_markers_is_left_alone(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match="README.md must have"):
        report.update_markdown(tmp_path / "README.md", make_run())
    assert (tmp_path / "README.md").read_text() == text


def test_bars_in_a_text_do_not_break_a_markdown_table():
    line = next(line for line in report.markdown(make_run(make_row("a|b"))).splitlines() if "a\\|b" in line)
    assert line.replace("\\|", "").count("|") == len(tables(make_run(make_row()))[0][0]) + 1
