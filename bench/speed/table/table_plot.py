"""Draws cost against size from a result of table.py: table_plot.py RESULT.json OUT.svg"""

import json
import sys

import matplotlib
matplotlib.use("svg")
from matplotlib import pyplot, ticker

OLD = "old Python package"
COLOURS = {"ours": "#0b6e4f", "ours, sr_decide": "#5bb98c", "faiss flat": "#9e9e9e", "faiss RaBitQ": "#e08a00",
           "faiss RaBitQ, refined": "#a65f00", "faiss HNSW ef 256": "#3366cc", "usearch int8 HNSW ef 512": "#9467bd",
           OLD: "#c0392b"}


def series(tables, of):
    """{name: [(rows, figure)]} of all that `of` finds in the parts of each size."""
    result = {}
    for rows in sorted(tables, key=int):
        for name, figure in of(tables[rows]).items():
            if figure is not None and name in COLOURS:
                result.setdefault(name, []).append((int(rows), figure))
    return result


def milliseconds(parts):
    found = {name: r["threads_1"]["p50_ms"] for name, r in parts.get("index", {}).items()}
    if "router" in parts:
        found["ours, sr_decide"] = parts["router"]["threads_1"]["p50_ms"]
    if "old" in parts:
        found[OLD] = parts["old"]["p50_ms"]
    return found


def rates(parts):
    found = {name: r["threads_2"]["batch_per_second"] for name, r in parts.get("index", {}).items()}
    if "router" in parts:
        found["ours, sr_decide"] = parts["router"]["threads_2"]["batch_per_second"]
    return found


def megabytes(parts):
    found = {name: r["memory_mb"] for name, r in parts.get("index", {}).items() if name != "ours"}
    if "router" in parts:  # what stands in memory while vectors are fetched from the database
        found["ours"] = parts["router"]["threads_1"]["index_mb"] or None
        found["ours, sr_decide"] = parts["router"]["threads_1"]["resident_mb"]
    if "old" in parts:
        found[OLD] = parts["old"]["memory_mb"]
    return found


def draw(axes, lines, title):
    for name, points in lines.items():
        points = [(rows, figure) for rows, figure in points if figure > 0]
        axes.plot(*zip(*points), label=name, color=COLOURS[name], marker="o", markersize=3,
                  linewidth=2.2 if name.startswith("ours") else 1.3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("utterances", fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.tick_params(labelsize=8)
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        tables = json.load(file)["runs"].get("synthetic", {})
    matplotlib.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "table"})
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.2))
    draw(axes[0], series(tables, milliseconds), "one query, one thread: p50, ms")
    draw(axes[1], series(tables, rates), "1,000 queries at once, two threads: queries/s")
    draw(axes[2], series(tables, megabytes), "memory, MB")
    handles = {label: handle for part in axes for handle, label in zip(*part.get_legend_handles_labels())}
    figure.legend([handles[name] for name in COLOURS if name in handles], [name for name in COLOURS if name in handles],
                  loc="lower center", ncol=4, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
