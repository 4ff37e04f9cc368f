"""The matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cells import CONCURRENCIES, LATENCIES_MS, Result, Subject
from benchmarks.findings import Findings

_STYLES = {
    Subject.BARE: ("#7f7f7f", "--", "o"),
    Subject.BARE_FRESH: ("#7f7f7f", "-", "o"),
    Subject.BARE_UVLOOP: ("#bcbd22", "--", "o"),
    Subject.SQLITE: ("#1f77b4", "-", "s"),
    Subject.POSTGRES: ("#d62728", "-", "^"),
}


def draw(findings: Findings, path: Path) -> None:
    """Write the plot as SVG, the same bytes for the same figures.

    :param findings: with a matrix
    :param path: of the file
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "popin"
    from matplotlib import pyplot

    results = [result for group in findings.matrix for result in group]
    figure, panels = pyplot.subplots(1, len(LATENCIES_MS), figsize=(12, 4.5), layout="constrained")
    for panel, latency in zip(panels, LATENCIES_MS, strict=True):
        here = [result for result in results if result.cell.latency_ms == latency]
        for subject, (colour, line, marker) in _STYLES.items():
            points = _points(here, subject)
            if points:
                panel.plot(*zip(*points, strict=True), line, color=colour, marker=marker, label=subject)
        limits = [(result.cell.concurrency, result.cell.limit) for result in here if result.cell.limit]
        if limits:
            panel.plot(
                *zip(*sorted(set(limits)), strict=True), ":", color="black", label="limit of the latency"
            )
        panel.set(
            title=f"{latency} ms latency" if latency else "no latency",
            xlabel="requests at once",
            xscale="log",
            ylim=(0, None),
        )
        panel.set_xticks(CONCURRENCIES, [str(number) for number in CONCURRENCIES])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("leads per second (capture and booking)")
    # One legend for all, since no panel need have all the lines.
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _points(results: Sequence[Result], subject: Subject) -> list[tuple[int, float]]:
    return sorted((r.cell.concurrency, r.rate) for r in results if r.cell.subject is subject)
