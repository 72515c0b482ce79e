"""The live race as a Markdown page, with a sentence for each result where pneumosearch loses, and as a plot."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.live_data import OURS_ALONE
from benchmarks.live_rows import JUDGED_BY, MEASURES, NEAR_BEST, ROUNDING, Runs, spread
from benchmarks.live_sides import OUR_DEFAULT, OURS
from pneumosearch._utils.atomic import replacing
from pneumosearch.metrics import METRICS

Figures = Mapping[str, Any]

_NAMES: Final = {"accuracy": "validation accuracy", "auc": "validation AUC"}
_POINTS: Final = 400  # per drawn curve
_MARGIN: Final = 0.005  # below the lowest drawn value
_OUR_TRAINING: Final = "-our-training"
_INCUMBENT: Final = (
    "The network that a side had at these times, judged once after its run. Of the other sides it is that of the epoch "
    "with the highest validation accuracy; of pneumosearch the first in its ranking of complete trials, which goes by "
    "the study's metric. The battery changes some of the same validation images; none of the test folder."
)


def markdown(figures: Figures) -> str:
    """Return the page: the conditions, the tables, and the results where pneumosearch loses."""
    parts = [
        f"# The live race: {_time(figures['budget_s'])} a run{_less_time(figures)}\n",
        _about(figures),
        *(_best_table(figures, measure) for measure in MEASURES),
        _cost_table(figures),
        _ratio_table(figures),
        _incumbents_table(figures),
        "## Where pneumosearch loses\n\n" + "\n".join(f"- {sentence}" for sentence in losses(figures)) + "\n",
    ]
    skipped = [f"- {side}: {reason}" for side, reason in figures["skipped"].items()]
    if skipped:
        parts.append("## Not raced\n\n" + "\n".join(skipped) + "\n")
    parts.append(_runs_table(figures))
    return "\n".join(part for part in parts if part)


def _less_time(figures: Figures) -> str:
    """Return which sides had less time than others, in brackets."""
    budgets = {row["side"]: row["budget_s"] for row in figures["sides"]}
    less = [f"{side} {_time(budget)}" for side, budget in budgets.items() if budget < figures["budget_s"]]
    return f" ({_list(less)})" if less else ""


def _about(figures: Figures) -> str:
    seeds = ", ".join(f"{side} {n}" for side, n in figures["seeds"].items())
    fixed, share = figures["terms"]["study"]["fixed"], figures["terms"]["share"]
    n = figures["n_validation"]
    about = (
        f"Images of {fixed.get('image_size', 150)} pixels, {share:.0%} of the training patients; runs: {seeds}. "
        f"{_bounds(figures['coverage'])}The best of a run is that of any epoch of any trial so far; an epoch counts "
        f"from when it was recorded. All sides have the same {n} validation images: one of them is {1 / n:.2%}."
    )
    others = figures["terms"]["study"].get("others", {})
    alone = OURS_ALONE & {*figures["terms"]["study"]["space"], *fixed, *others}
    if alone:
        about += (
            f" {_list(sorted(alone))}: in pneumosearch's training alone; the scripts of the other sides do without."
        )
    shared = [f"{name} = {value}" for name, value in others.items() if name not in OURS_ALONE]
    if shared:
        about += f" {_list(shared)}: in all trials, but for the published network of pneumosearch."
    if OUR_DEFAULT in figures["seeds"]:
        about += (
            f" {OUR_DEFAULT} is the default study: another space, its own image size, and trainings against most of "
            f"the crafted shifts that judge below."
        )
    where = ", ".join(f"{key} {figures[key]}" for key in ("commit", "date", "processor", "cores"))
    return f"{about}\n\n`{figures['command']}`\n\n{where}\n"


def _bounds(coverage: Mapping[str, float]) -> str:
    """Return a sentence on the brackets for each number of runs."""
    known = [f"{probability:.0%} ({n} runs)" for n, probability in coverage.items() if probability > 0]
    parts = [
        "Each figure is the median over a side's runs, in brackets the bounds that hold the true median with a "
        f"probability of {_list(known)}. "
        if known
        else "",
        "A side that ran once has no interval. " if "1" in coverage else "",
    ]
    return "".join(parts)


def _best_table(figures: Figures, measure: str) -> str:
    headings = ["side", *(f"after {_time(t)}" for t in figures["times_s"])]
    rows = [
        [
            row["side"],
            *(
                _percent(cell) + "*" * (seconds > row["budget_s"])
                for seconds, cell in zip(figures["times_s"], row[f"best_{measure}"], strict=True)
            ),
        ]
        for row in figures["sides"]
    ]
    note = "\n\\* As at its end, which was before.\n" if _less_time(figures) else ""
    return f"## Best {_NAMES[measure]} so far, %\n\n{_table(headings, rows)}{note}"


def _cost_table(figures: Figures) -> str:
    baseline, best = figures["baseline_accuracy"], figures["best_found"]
    headings = ["side", "s to the baseline's accuracy", "s to near the best", "epochs", "trials", "MiB", "failures"]
    keys = ("seconds_to_baseline", "seconds_to_near_best", "epochs", "trials", "peak_mib")
    rows = [[row["side"], *(_whole(row[key]) for key in keys), str(row["failures"])] for row in figures["sides"]]
    targets = [f"the baseline's {baseline:.1%}"] if baseline is not None else []
    targets += [f"{best - NEAR_BEST:.1%}, {100 * NEAR_BEST:g} points below the best of all runs"] if best else []
    return f"## Time and cost\n\nTo reach {', and '.join(targets) or 'nothing'}.\n\n{_table(headings, rows)}"


def _ratio_table(figures: Figures) -> str:
    headings = ["side", "its median final best, %", "its time to it, s", "pneumosearch's time, s", "faster by"]
    rows = [
        [
            ratio["side"],
            _number(ratio["final_accuracy"], scale=100, digits=2),
            _number(ratio["seconds"]),
            _number(ratio["our_seconds"]) if ratio["our_seconds"] is not None else "never",
            _number(ratio["faster_by"]) if ratio["faster_by"] is not None else "not at all",
        ]
        for ratio in figures["ratios"]
    ]
    return f"## How much sooner pneumosearch is as good\n\n{_table(headings, rows)}" if rows else ""


def _incumbents_table(figures: Figures) -> str:
    headings = ["side", "after", "runs", *(f"{METRICS[name].words}, %" for name in JUDGED_BY)]
    rows = [
        [row["side"], _time(then["after_s"]), str(then["n"]), *(_percent(then[name]) for name in JUDGED_BY)]
        for row in figures["sides"]
        for then in row["incumbents"]
    ]
    return f"## Incumbents judged by crafted shifts\n\n{_INCUMBENT}\n\n{_table(headings, rows)}" if rows else ""


def _runs_table(figures: Figures) -> str:
    headings = ["side", "seed", "time", "date", "commit", "processor", "cores"]
    rows = [[run["side"], str(run["seed"]), _time(run["budget_s"]), *(str(run[key]) for key in headings[3:])]
            for run in figures["runs"]]  # fmt: skip
    return f"## Runs\n\n{_table(headings, rows)}"


def losses(figures: Figures) -> list[str]:
    """Return a sentence for each median of another side that is better than that of pneumosearch."""
    ours = next((row for row in figures["sides"] if row["side"] == OURS), None)
    if ours is None:
        return [f"{OURS} has not been run."]
    others = [row for row in figures["sides"] if row["side"] != OURS]
    found = [*_behind(figures, ours, others), *_worth_less(ours, others), *_later(ours, others)]
    found += _larger(ours, others)
    return found or ["Nowhere: in each table, no other side's median is better."]


def _behind(figures: Figures, ours: Figures, others: list[Figures]) -> Iterator[str]:
    for measure in MEASURES:
        for place, seconds in enumerate(figures["times_s"]):
            own = ours[f"best_{measure}"][place]["median"]
            theirs = {row["side"]: row[f"best_{measure}"][place]["median"] for row in others}
            ahead = {
                side: value for side, value in theirs.items() if value is not None and value > (own or 0.0) + ROUNDING
            }
            if ahead:
                mine = f"{own:.2%}" if own is not None else "none yet"
                yield (
                    f"After {_time(seconds)}, its best {_NAMES[measure]} ({mine}) is below that of "
                    + _list(f"{side} ({value:.2%})" for side, value in ahead.items())
                    + "."
                )


def _worth_less(ours: Figures, others: list[Figures]) -> Iterator[str]:
    """Compare each judged incumbent of other sides with the latest of pneumosearch."""
    if not ours["incumbents"]:
        return
    latest = ours["incumbents"][-1]
    for name in JUDGED_BY:
        own = latest[name]["median"]
        theirs = {
            f"{row['side']} after {_time(then['after_s'])}": then[name]["median"]
            for row in others
            for then in row["incumbents"]
        }
        ahead = [f"{side} ({value:.2%})" for side, value in theirs.items() if value > own + ROUNDING]
        if ahead:
            yield (
                f"Judged afterwards, the {METRICS[name].words} of its incumbent after {_time(latest['after_s'])} "
                f"({own:.2%}) is below that of {_list(ahead)}."
            )


def _later(ours: Figures, others: list[Figures]) -> Iterator[str]:
    aims = {"seconds_to_baseline": "the baseline's accuracy", "seconds_to_near_best": "near the best found"}
    for key, aim in aims.items():
        if ours[key] is None:
            continue
        own = ours[key]["median"]
        theirs = {row["side"]: row[key]["median"] for row in others}
        sooner = {side: s for side, s in theirs.items() if s is not None and (own is None or s < own)}
        if sooner:
            sides = _list(f"{side} ({seconds:.0f} s)" for side, seconds in sooner.items())
            if own is None:
                yield f"Its median run does not come to {aim} in its time, unlike {sides}."
            else:
                yield f"It comes to {aim} after {own:.0f} s, later than {sides}."


def _larger(ours: Figures, others: list[Figures]) -> Iterator[str]:
    own = ours["peak_mib"]["median"]
    smaller = [f"{row['side']} ({row['peak_mib']['median']:.0f})" for row in others if row["peak_mib"]["median"] < own]
    if smaller:
        yield f"It takes more memory ({own:.0f} MiB at its peak) than {_list(smaller)}."
    fewer = [f"{row['side']} ({row['failures']})" for row in others if row["failures"] < ours["failures"]]
    if fewer:
        yield f"It has more failures ({ours['failures']}) than {_list(fewer)}."


def _list(items: Any) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else str(last)


def _table(headings: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *("--:" for _ in headings[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *rows))


def _percent(cell: Mapping[str, float | None]) -> str:
    return _bracketed(*(_number(cell[name], scale=100, digits=2) for name in ("median", "low", "high")))


def _whole(cell: Mapping[str, float | None] | None) -> str:
    if cell is None:
        return "–"
    return _bracketed(*(_number(cell[name], digits=0) for name in ("median", "low", "high")))


def _bracketed(median: str, low: str, high: str) -> str:
    return median if low == median == high else f"{median} ({low} to {high})"


def _number(value: float | None, scale: float = 1, digits: int = 1) -> str:
    return "–" if value is None else f"{scale * value:.{digits}f}"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:g} s"


def draw(runs: Runs, budget: float, path: Path) -> None:
    """Draw the best so far against minutes as an SVG: the median as steps, and the band of `spread`.

    After the end of a side with less time, its median goes on as a thin dotted line.

    The time axis is logarithmic. The lowest values in the first twentieth of the time are cut off, because the sides
    differ most there and are close to each other later.

    Args:
        runs: As `live_rows.read_runs` returns them.
        budget: End of the time axis in seconds.
        path: File to write.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    first = min((run.seconds[0] for own in runs.values() for run in own if run.seconds), default=budget / _POINTS)
    times = np.geomspace(min(first, budget / 2), budget, _POINTS)
    for axes, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        lowest, highest = [1.0], 0.0
        for side, colour, line in _styles(runs):
            low, middle, high = np.array([spread([run.at(t, measure) for run in runs[side]]) for t in times]).T
            over = times > max(run.budget for run in runs[side])
            there = np.isfinite(low) & ~over
            lowest.extend(low[there & (times >= budget / 20)])
            highest = max(highest, high[-1])
            axes.plot(times[over] / 60, middle[over], ":", color=colour, linewidth=1)
            axes.plot(
                times / 60, np.where(there, middle, np.nan), line, color=colour, label=side, drawstyle="steps-post"
            )
            axes.fill_between(times / 60, low, high, where=there, step="post", color=colour, alpha=0.1, linewidth=0)
        axes.set(xlabel="minutes", ylabel=f"best {_NAMES[measure]} so far", xscale="log")
        axes.set(xlim=(times[0] / 60, budget / 60), ylim=(min(lowest) - _MARGIN, min(highest + _MARGIN, 1.0)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", loc="lower right")
    with replacing(path) as temporary, rc_context({"svg.hashsalt": "race"}):  # the same runs give the same file
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def _styles(runs: Runs) -> Iterator[tuple[str, str, str]]:
    """Yield (side, colour, line style): one colour per search, dashed if it uses the training of pneumosearch."""
    families = list(dict.fromkeys(side.removesuffix(_OUR_TRAINING) for side in runs))
    for side in runs:
        number = families.index(side.removesuffix(_OUR_TRAINING))
        yield side, f"C{number}", "--" if side.endswith(_OUR_TRAINING) else "-"
