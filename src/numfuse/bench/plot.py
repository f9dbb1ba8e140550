"""Pictures of a run: speed over size, bars where there are few sizes, slow-down under load."""

import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..files import replacing
from .results import RIVALS, data, key, loop, median, rivals
from .texts import fixed, label, machine_line, ordered, ratio_text, shape_text, time_text

# Colours that are told apart with any kind of colour vision; each line has a marker of its own as well.
COLORS = dict(zip(["native", *RIVALS], [
    "#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#882255", "#009E73", "#CC79A7", "#999933", "#661100"]))
MARKERS = dict(zip(["native", *RIVALS], "os^DvP<>Xd"))
LINES = ["-", "--", ":", "-."]  # one a thread count
LIMIT = "#888888"
MARK = {"color": "#444444", "linestyle": "--", "linewidth": 1.5,
        "path_effects": [withStroke(linewidth=3, foreground="white")]}  # to be seen on black too
TITLE = {"fontweight": "bold", "x": 0.01, "horizontalalignment": "left"}
SPEED = "speed (Gelement/s)"
STREAM = "streaming the same bytes"
FEW_SIZES = "fused", "activations", "losses"  # a picture of each group
CURVE = 3  # sizes that a curve needs: of fewer there are bars
CUT = 25  # times native's longest bar: beyond, native's could not be seen


def draw(folder, run):
    """Draw everything that the run has into a folder, as PNG and SVG. Returns the paths of the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures(run):
        figure.supxlabel(machine_line(run), fontsize="x-small", color="#555555", wrap=True)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once for both files
        for kind in ("png", "svg"):
            paths.append(folder / f"{name}.{kind}")
            with replacing(paths[-1]) as file:
                figure.savefig(file, format=kind, dpi=150)
    return paths


def figures(run):
    """Pairs of a file name and a figure."""
    measured = [row for row in ordered(run["rows"]) if "native" in row.get("seconds", {})]
    quiet = [row for row in measured if not row["busy"]]
    settings = [name for name in ("dtype", "isa") if fixed(quiet, name) is None]
    tensors, steps, few_sizes = {}, {}, {}
    for words, rows in _grouped(quiet, lambda row: (row["case"], *(row[name] for name in settings))):
        title = " ".join(words)
        flat = [row for row in rows if len(row["shape"]) == 1]
        if rows[0]["group"] == "training steps":
            steps[f"{title}: {shape_text(rows[0])}"] = rows
        elif rows[0]["group"] == "batch norm":
            yield _file_name(title), _speed_bars(title, {"": rows})
        elif rows[0]["group"] in FEW_SIZES:
            few_sizes.setdefault(rows[0]["group"], {})[title] = rows
        elif flat:
            enough = len({row["elements"] for row in flat}) >= CURVE
            yield _file_name(title), _curves(title, flat) if enough else _speed_bars(title, {"": flat})
        if rows[0]["group"] == "optimizers" and len(flat) < len(rows):
            tensors[title] = [row for row in rows if row not in flat]
    for group, cases in few_sizes.items():
        yield _file_name(group), _speed_bars(group.capitalize(), cases)
    if tensors:
        yield "small-tensors", _time_bars("Optimizer step over many small tensors", tensors, STREAM)
    if steps:
        yield "training-steps", _time_bars("Training step: forward, backward and update", steps,
                                           "the matrix products alone")
    partners = {key(row): row for row in quiet}
    loaded = [row for row in measured if row["busy"] and key(row | {"busy": 0}) in partners]
    for group, rows in _grouped(loaded, lambda row: row["group"]):
        yield _file_name(f"load {group}"), _load(group, rows, partners)


def _curves(title, rows):
    """Speed and time per element over size; with several thread counts, native's gain from them too."""
    threads = sorted({row["threads"] for row in rows})
    figure = Figure(figsize=(13 + 3.5 * (len(threads) > 1), 5.4), layout="constrained")
    words = [rows[0][name] for name in ("dtype", "isa") if rows[0][name] not in title.split()]
    figure.suptitle(f"{title} ({', '.join(words)})" if words else title, **TITLE)
    panels = figure.subplots(1, 2 + (len(threads) > 1))
    _over_size(panels[0], rows, threads, _speed, above=True)
    panels[0].set(title="Speed (higher is better)", ylabel=SPEED)
    _over_size(panels[1], rows, threads, lambda row, rival: 1 / _speed(row, rival), above=False)
    panels[1].set(title="Time per element (lower is better)", ylabel="time per element (ns)")
    if len(threads) > 1:
        _over_threads(panels[2], rows, threads)
    handles = [Line2D([], [], label=label(rival), **_line(rival)) for rival in ["native", *rivals(*rows)]]
    if any(map(loop, rows)):
        handles.append(Patch(color=LIMIT, alpha=0.3, label="beyond the limit:\n" + STREAM))
    if len(threads) > 1:
        handles += [Line2D([], [], color=LIMIT, linestyle=style, linewidth=1.5, label=_threads_text(count))
                    for count, style in zip(threads, LINES * len(threads))]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure


def _over_size(axes, rows, threads, value, above):
    for count, style in zip(threads, LINES * len(threads)):
        of_count = [row for row in rows if row["threads"] == count]
        points = [(row["elements"], value(row, loop(row))) for row in of_count if loop(row)]
        if points:
            axes.plot(*zip(*points), style, color=LIMIT, linewidth=1.5, zorder=1)
        for rival in ["native", *rivals(*of_count)]:
            points = [(row["elements"], value(row, rival)) for row in of_count if rival in row["seconds"]]
            axes.plot(*zip(*points), style, **_line(rival))
    axes.set(xscale="log", yscale="log", xlabel="elements")
    sizes = sorted({row["elements"] for row in rows})
    sizes = sizes[::-(-len(sizes) // 7)]
    axes.set_xticks(sizes, [_size_text(size) for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    _mark_limit(axes, rows, value, above)
    _mark_cache(axes, rows)


def _mark_limit(axes, rows, value, above):
    """Shade what no kernel that goes through memory reaches."""
    best = {}
    for row in rows:
        if loop(row):
            best.setdefault(row["elements"], []).append(value(row, loop(row)))
    low, high = axes.get_ylim()
    low, high, pick = (low, high * 1.3, max) if above else (low / 1.3, high, min)
    sizes = sorted(best)
    edge = [pick(best[size]) for size in sizes]
    axes.fill_between(sizes, edge, high if above else low, color=LIMIT, alpha=0.15, linewidth=0)
    axes.set_ylim(low, high)


def _mark_cache(axes, rows):
    """Draw a line where arrays no longer fit together in L2."""
    hot, cold = ([row["elements"] for row in rows if (data(row) == "L2") is is_hot and data(row)]
                 for is_hot in (True, False))
    if hot and cold and max(hot) < min(cold):
        border = (max(hot) * min(cold)) ** 0.5
        axes.axvline(border, color="#555555", linestyle=(0, (1, 2)), linewidth=1)
        axes.annotate("in L2 | beyond", (border, 0.01), xycoords=("data", "axes fraction"), ha="center",
                      fontsize="x-small", color="#555555")


def _over_threads(axes, rows, threads):
    sizes = [size for size, of_size in _grouped(rows, lambda row: row["elements"])
             if {row["threads"] for row in of_size} == set(threads)]
    shown = sorted(sizes)[-5:]
    ideal = [count / threads[0] for count in threads]
    axes.plot(threads, ideal, "--", color=LIMIT, linewidth=1, label="ideal")
    for shade, marker, size in zip(np.linspace(0.7, 0, len(shown)), "vs^Do", shown):
        times = [median(row, "native") for count in threads for row in rows
                 if row["elements"] == size and row["threads"] == count]
        axes.plot(threads, [times[0] / time for time in times], color=str(shade), marker=marker,
                  label=f"{_size_text(size)} elements")
    axes.set(title="numfuse: gain from threads", xlabel="threads", xticks=threads,
             ylabel=f"times as fast as with {threads[0]}")
    axes.set_ylim(0, max(ideal[-1], axes.get_ylim()[1]) * 1.05)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="best")


def _speed_bars(title, panels):
    return _bars(f"{title}: speed (higher is better)", panels, _speed, SPEED, "{:.3g}".format, STREAM)


def _time_bars(title, panels, limited):
    return _bars(f"{title} (lower is better)", panels, median, "time of a step", time_text, limited)


def _bars(title, panels, value, xlabel, text, limited):
    """Horizontal bars, a group for each row.

    panels : {title: rows}; value : (row, rival) -> length of the bar; text : length -> what stands at its end
    """
    threads = {row["threads"] for rows in panels.values() for row in rows}
    heights = [*map(_bar_count, panels.values())]
    columns = 1 + (len(panels) > 3)
    lines = -(-len(panels) // columns)
    sizes = [max(heights[line * columns:(line + 1) * columns]) for line in range(lines)]
    figure = Figure(figsize=(6 + 5 * columns, 1.2 + 0.22 * sum(sizes) + 0.8 * lines), layout="constrained")
    figure.suptitle(title, **TITLE)
    grid = figure.subplots(lines, columns, squeeze=False, height_ratios=sizes)
    for axes, (name, rows) in zip(grid.flat, panels.items()):
        spans = _bar_panel(axes, rows, [_group_text(row, threads) for row in rows], value, text)
        for span, row in zip(spans, rows):
            if loop(row):
                axes.vlines(value(row, loop(row)), *span, **MARK)
        axes.set(title=name, xlabel=xlabel)
        if text is time_text:
            axes.xaxis.set_major_formatter(_tick_time)
    for axes in list(grid.flat)[len(panels):]:
        axes.set_axis_off()
    rows = [row for rows in panels.values() for row in rows]
    _bar_legend(figure, rows, f"limit: {limited}" if any(map(loop, rows)) else "")
    return figure


def _load(group, rows, partners):
    """Bars of the time under load as a multiple of the time without."""
    threads = {row["threads"] for row in rows}
    figure = Figure(figsize=(11, 2 + 0.22 * _bar_count(rows)), layout="constrained")
    figure.suptitle(f"{group.capitalize()} on a busy machine: slow-down (lower is better)", **TITLE)
    axes = figure.subplots()
    texts = ["\n".join([row["case"], _shape(row), *[_threads_text(row["threads"])] * (len(threads) > 1),
                        f"{row['busy']} CPU{'s' * (row['busy'] > 1)} busy"]) for row in rows]

    def slowdown(row, rival):
        alone = median(partners[key(row | {"busy": 0})], rival)
        return median(row, rival) / alone if alone else 0

    _bar_panel(axes, rows, texts, slowdown, lambda factor: ratio_text(factor) if factor else "?")
    axes.axvline(1, **MARK)
    axes.set_xlabel("time while another process keeps CPUs busy / time on the quiet machine")
    _bar_legend(figure, rows, "as on the quiet machine")
    return figure


def _bar_panel(axes, rows, texts, value, text):
    """Groups of bars from the top down. Returns where each group begins and ends."""
    y, spans = 0, []
    longest = CUT * max(value(row, "native") for row in rows)
    for row in rows:
        start = y
        for rival in ["native", *rivals(row)]:
            length = value(row, rival)
            drawn, cut = min(length, longest), " (cut off)" if length > longest else ""
            axes.barh(y, drawn, height=0.9, color=_color(rival))
            axes.annotate(text(length) + cut, (drawn, y), xytext=(4, 0), textcoords="offset points", va="center",
                          fontsize="x-small", fontweight="bold" if rival == "native" else "normal")
            y += 1
        spans.append((start - 0.5, y - 0.5))
        y += 1
    axes.set_yticks([sum(span) / 2 for span in spans], texts)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 1.2, -0.8)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return spans


def _bar_legend(figure, rows, line):
    handles = [Patch(color=_color(rival), label=label(rival)) for rival in ["native", *rivals(*rows)]]
    if line:
        handles.append(Line2D([], [], label=line, **MARK))
    figure.legend(handles=handles, loc="outside right upper", frameon=False)


def _bar_count(rows):
    return sum(len(rivals(row)) + 2 for row in rows)


def _speed(row, rival):
    return row["elements"] / median(row, rival) / 1e9


def _color(rival):
    return COLORS.get(rival, "#BBBBBB")


def _line(rival):
    native = rival == "native"
    return {"color": _color(rival), "marker": MARKERS.get(rival, "*"), "zorder": 3 if native else 2,
            "linewidth": 3 if native else 1.3, "markersize": 6 if native else 4.5}


def _group_text(row, threads):
    shape = [] if row["group"] == "training steps" else [_shape(row)]
    return "\n".join(shape + [_threads_text(row["threads"])] * (len(threads) > 1))


def _shape(row):
    return shape_text(row) + " elements" * (len(row["shape"]) == 1)


def _threads_text(count):
    return f"{count} thread{'s' * (count != 1)}"


def _size_text(size):
    return shape_text({"group": "", "shape": [size]})


def _tick_time(seconds, _):
    for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds * 1e9:g} ns" if seconds else "0"


def _grouped(rows, group):
    groups = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    return groups.items()


def _file_name(title):
    return re.sub(r"[^\w.=]+", "-", title)
