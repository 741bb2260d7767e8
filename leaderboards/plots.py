"""Where the marks of a plot stand: plain geometry, which a template draws as inline SVG; no drawing library."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mrsr_bench.benchmarks.metric import MetricSpec
from mrsr_bench.leaderboards.board import Entry, Table, known_values

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 16, 16, 56
LABELLED = 10
"""Points that get their name written beside them: more would lie over each other."""
MOST_NAMELESS = 30
"""Points without a name in the plot that a list below it names."""
MAX_LINES = 8
"""Lines of one plot: as many as there are colours to tell them apart."""
MOST_TICKS = 6
"""Labels of a logarithmic axis."""
_LINE = {"wide": 13.0, "phone": 19.0}
"""Height of a line of text in the units of the plot: on a phone a plot is small, so its text is large in it. As in
the style sheet."""
_CHARACTER = 0.55
"""Width of a character, as a share of the height of its line."""


class Tick(NamedTuple):
    """A mark on an axis and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A point: place in the plot, whose it is, which page tells more, and whether it is in the first tie group.

    ``wide`` and ``phone`` are the sides on which its name stands on such a screen; None: there is no room.
    """

    x: float
    y: float
    label: str
    href: str
    text: str
    first: bool
    solid: bool
    wide: str | None
    phone: str | None


@dataclass(frozen=True)
class Line:
    """A method over factors: its colour's number and its points."""

    label: str
    href: str
    colour: int
    points: tuple[tuple[float, float, str], ...]

    @property
    def path(self) -> str:
        """The ``points`` attribute of a polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in self.points)


@dataclass(frozen=True)
class Plot:
    """Everything a template needs; ``omitted`` says what is not drawn and why."""

    id: str
    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()
    omitted: str | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    stop: float
    log: bool

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> tuple[Tick, ...]:
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            decades = range(first, last + 1, math.ceil((last - first + 1) / MOST_TICKS))
            return tuple(Tick(self.at(10.0**power), _short(10.0**power)) for power in decades)
        step = _step(self.high - self.low)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(Tick(self.at(i * step), f"{round(i * step, 10):g}") for i in range(first, last + 1))


def _step(extent: float) -> float:
    """1, 2 or 5 times a power of ten, for about five ticks."""
    power = 10.0 ** math.floor(math.log10(extent / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if extent / (power * factor) <= 6)


def _short(value: float) -> str:
    if value >= 1e12:
        return f"{value / 1e12:.3g} T"
    if value >= 1e9:
        return f"{value / 1e9:.3g} G"
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value / 1e3:.3g} k" if value >= 1e3 else f"{value:.3g}"


def _scale(values: Sequence[float], start: float, stop: float, *, log: bool = False) -> _Scale:
    low, high = min(values), max(values)
    if log:
        return _Scale(
            10.0 ** math.floor(math.log10(low)), 10.0 ** (math.floor(math.log10(high)) + 1), start, stop, True
        )
    room = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    return _Scale(low - room, high + room, start, stop, False)


def perception_distortion(table: Table) -> Plot | None:
    """Distortion (the metric that orders the table) against the first perceptual metric that the table has."""
    names = {spec.name: spec for spec in table.columns}
    perceptual = next((names[name] for name in ("lpips", "pi", "niqe", "ma", "piqe") if name in names), None)
    distortion = table.ranked_by
    if perceptual is None or distortion is None:
        return None
    better = "right is better" if perceptual.direction == "higher" else "left is better"
    return _scatter(
        table,
        "perception",
        "Perception against distortion",
        f"{perceptual.name} ({better})",
        [(entry, entry.mean(perceptual.name)) for entry in table.entries],
    )


def quality_cost(table: Table, cost: str) -> Plot | None:
    """The metric that orders the table against ``cost``: ``parameters`` or ``seconds`` per volume, on a log scale."""
    what = {"parameters": "Quality against size", "seconds": "Quality against time"}[cost]
    label = {"parameters": "parameters (log scale)", "seconds": "seconds per volume, as reported (log scale)"}[cost]
    found: list[tuple[Entry, float | None]] = []
    for entry in table.entries:
        one = entry.submission
        value = one.parameters if cost == "parameters" else one.seconds_per_volume
        found.append((entry, float(value) if value else None))
    return _scatter(table, cost, what, label, found, log=True)


def _scatter(
    table: Table, kind: str, title: str, x_label: str, found: Sequence[tuple[Entry, float | None]], *, log: bool = False
) -> Plot | None:
    spec = table.ranked_by
    if spec is None:
        return None
    whole = [(entry, x) for entry, x in found if not entry.missing]
    known = [(entry, x, y) for entry, x in whole if x is not None and (y := entry.mean(spec.name)) is not None]
    if len(known) < 2:
        return None
    across = _scale([x for _, x, _ in known], LEFT, WIDTH - RIGHT, log=log)
    up = _scale([y for _, _, y in known], HEIGHT - BOTTOM, TOP)
    marks: list[Mark] = []
    places = [(across.at(x), up.at(y)) for _, x, y in known]
    names = [entry.submission.method[:24] for entry, _, _ in known]
    sides = {screen: _sides(names, places, line) for screen, line in _LINE.items()}
    for (entry, x, y), (at, height), name, wide, phone in zip(known, places, names, *sides.values(), strict=True):
        text = f"{entry.submission.method}: {spec.name} {y:.4g}, {re.split(r',| [(]', x_label)[0]} {_short(x)}"
        marks.append(
            Mark(
                *(round(at, 1), round(height, 1), name, f"methods/{entry.method}.html", text),
                first=entry.ranks.get(spec.name) == 1,
                solid=entry.submission.badge == "re-run",
                wide=wide,
                phone=phone,
            )
        )
    reasons = {"without such a value": len(whole) - len(known), "without all subjects": len(found) - len(whole)}
    left_out = ", ".join(f"{n} {why}" for why, n in reasons.items() if n)
    best = max(known, key=lambda k: k[2]) if spec.direction == "higher" else min(known, key=lambda k: k[2])
    return Plot(
        id=f"plot-{kind}",
        title=title,
        description=f"{len(known)} entries; the best mean {spec.name}, {best[2]:.4g}, has {best[0].submission.method}. "
        "The same numbers stand in the table.",
        x_label=x_label,
        y_label=f"{spec.name} ({spec.units if spec.units != '1' else spec.direction + ' is better'})",
        x_ticks=across.ticks(),
        y_ticks=up.ticks(),
        marks=tuple(marks),
        omitted=f"Not drawn, of {len(found)} entries: {left_out}" if left_out else None,
    )


def _sides(names: Sequence[str], places: Sequence[tuple[float, float]], line: float) -> list[str | None]:
    """The side of its mark on which each name stands, in text of so high a line; None where there is no room."""
    sides: list[str | None] = []
    taken: list[tuple[float, float, float]] = []
    for name, place in zip(names, places, strict=True):
        long = _CHARACTER * line * len(name)
        side = _free_side(place, long, taken, places, line) if len(taken) < LABELLED else None
        sides.append(side)
        if side is not None:
            taken.append((*_span(place[0], long, side), place[1]))
    return sides


def _span(at: float, long: float, side: str) -> tuple[float, float]:
    """From where to where the text beside a mark goes."""
    return (at - 9 - long, at - 9) if side == "left" else (at + 9, at + 9 + long)


def _free_side(
    place: tuple[float, float],
    long: float,
    labels: Sequence[tuple[float, float, float]],
    marks: Sequence[tuple[float, float]],
    line: float,
) -> str | None:
    """On which side of a mark its name lies over no other name, no mark and no edge; None if on neither."""
    at, height = place
    for side in ("right", "left"):
        start, end = _span(at, long, side)
        if (
            start >= LEFT
            and end <= WIDTH - RIGHT
            and all(abs(height - h) > line or start > b or end < a for a, b, h in labels)
            and all(abs(height - y) > line / 2 + 5 or x < start - 6 or x > end + 6 for x, y in marks)
        ):
            return side
    return None


def family_of(table: Table) -> tuple[str, str, str] | None:
    """What tables share that differ in their factor alone: name, degradation and degraded axes; None without a factor.

    The name is the protocol's without the factor at its end, so that a paper's protocols stay apart from ours: thick-4
    is one of thick, inplane-1x4x1 one of inplane-1xNx1.
    """
    found = re.fullmatch(r"(.+)-(\d+(?:x\d+)*x?)", table.protocol)
    if found is None or table.factor is None or all(f == 1 for f in table.factor):
        return None
    axes = "x".join("1" if f == 1 else "N" for f in table.factor)
    name = f"{found[1]}-{axes}" if found[2].count("x") == 2 else found[1]
    return name, table.degradation, axes


def over_factors(tables: Sequence[Table]) -> list[Plot]:
    """One plot for each family of protocols that differ in their factor alone, on the same dataset, split and seed."""
    families: dict[tuple[tuple[str, str, str], str, str, int], list[Table]] = {}
    for table in tables:
        family = family_of(table)
        if family is not None and table.ranked_by is not None:
            families.setdefault((family, table.dataset, table.split, table.seed), []).append(table)
    plots: list[Plot] = []
    for ((name, _, _), dataset, split, _), members in families.items():
        plot = _lines(f"{name} on {dataset} ({split})", f"plot-factor-{len(plots)}", members)
        if plot is not None:
            plots.append(plot)
    return plots


def _comparable(tables: Sequence[Table], spec: MetricSpec) -> tuple[list[Table], frozenset[str]]:
    """The tables that share subjects, and those subjects: a curve whose points are of different heads tells nothing.

    Tables of many entries decide; one that shares no subject with them is left out.
    """
    chosen: list[Table] = []
    shared: frozenset[str] = frozenset()
    for table in sorted(tables, key=lambda t: (-len(t.entries), t.id)):
        both = frozenset(table.subjects) & shared if chosen else frozenset(table.subjects)
        if both and table.ranked_by == spec:
            chosen, shared = [*chosen, table], both
    return chosen, shared


def _points(
    tables: Sequence[Table], metric: str, subjects: frozenset[str]
) -> dict[str, list[tuple[float, float, Entry]]]:
    """By method (factor, mean of ``metric`` over ``subjects``, entry), of entries that have them all."""
    found: dict[str, list[tuple[float, float, Entry]]] = {}
    for table in tables:
        for entry in table.entries:
            known = known_values(entry, metric)
            if table.factor is not None and not entry.superseded and subjects <= known.keys():
                mean = math.fsum(known[subject] for subject in subjects) / len(subjects)
                found.setdefault(entry.method, []).append((math.prod(table.factor), mean, entry))
    return found


def _lines(title: str, id_: str, tables: Sequence[Table]) -> Plot | None:
    spec = tables[0].ranked_by
    if spec is None:
        return None
    chosen_tables, subjects = _comparable(tables, spec)
    drawn = _points(chosen_tables, spec.name, subjects)
    if all(len({x for x, _, _ in points}) < 2 for points in drawn.values()):
        return None
    sign = -1 if spec.direction == "higher" else 1
    order = sorted(drawn, key=lambda m: (-len(drawn[m]), sign * sum(y for _, y, _ in drawn[m]) / len(drawn[m])))
    chosen = order[:MAX_LINES]
    known = [(x, y) for method in chosen for x, y, _ in drawn[method]]
    across = _scale([x for x, _ in known], LEFT, WIDTH - RIGHT)
    up = _scale([y for _, y in known], HEIGHT - BOTTOM, TOP)
    lines = []
    for colour, method in enumerate(chosen):
        points = sorted(drawn[method], key=lambda point: point[0])
        name = points[0][2].submission.method
        placed = tuple(
            (round(across.at(x), 1), round(up.at(y), 1), f"{name}: {spec.name} {y:.4g} at factor {x:g}")
            for x, y, _ in points
        )
        lines.append(Line(name, f"methods/{method}.html", colour, placed))
    left_out = len({entry.method for table in tables for entry in table.entries}) - len(chosen)
    of = f"{'one subject' if len(subjects) == 1 else f'{len(subjects)} subjects'} that all these factors have"
    factors = sorted({x for x, _ in known})
    return Plot(
        id=id_,
        title=title,
        description=f"Mean {spec.name} of {len(chosen)} methods over the {of}; factors "
        f"{', '.join(f'{x:g}' for x in factors)}.",
        x_label="factor (HR voxels per LR voxel)",
        y_label=f"{spec.name} ({spec.units if spec.units != '1' else spec.direction + ' is better'})",
        x_ticks=tuple(Tick(across.at(x), f"{x:g}") for x in factors),
        y_ticks=up.ticks(),
        lines=tuple(lines),
        omitted=f"Means over the {of}"
        + (f". Not drawn: {left_out} more (too many lines, other subjects)" if left_out else ""),
    )
