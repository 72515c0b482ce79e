"""The audit of a data folder as sentences and Rich tables."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pneumosearch.data.audit.audit import NUMBERING_NOTE, Audit, IdenticalFiles, NearPair, SplitBalance
from pneumosearch.data.audit.shift import ShiftComparison
from pneumosearch.errors import printable
from pneumosearch.records.classes import class_words
from pneumosearch.report.tables import percent, phantom_warning

_N_LISTED = 10  # entries of each table in the terminal; --json has all


class Sentence(NamedTuple):
    """The result of one check."""

    level: Literal["good", "note", "bad"]
    text: str


def sentences(audit: Audit) -> list[Sentence]:
    """Return the result of each check as a sentence."""
    return [
        *_file_sentences(audit),
        *_leak_sentences(audit),
        _balance_sentence(audit),
        *_model_sentences(audit.comparisons),
    ]


def _file_sentences(audit: Audit) -> list[Sentence]:
    odd, coloured, broken = len(audit.odd), len(audit.coloured), len(audit.unreadable)
    size = "" if audit.median_width is None else f" (median {audit.median_width:g} x {audit.median_height:g} pixels)"
    passed = sum(each.n for each in audit.passed_over)
    reasons = ", ".join(f"{each.n:,} {each.reason}" for each in audit.passed_over)
    unknown = f"of {audit.n_images:,} images have names that tell no patient: each counts as another patient's"
    return [
        _counted(passed, "note", f"files or folders are passed over: {reasons}", "Every file in the folder is read."),
        _counted(audit.unknown_patients, "note", unknown, "Every image's name tells its patient."),
        _counted(broken, "bad", f"of {audit.n_images:,} images cannot be decoded", "Every image can be decoded."),
        _counted(odd, "note", f"images are outliers in size or aspect ratio{size}",
                 f"No image is an outlier in size or aspect ratio{size}."),
        _counted(len(audit.unlike), "note", "images look very different from the training images",
                 "No image looks very different from the training images."),
        _counted(coloured, "note", "images are coloured", "No image is coloured: all channels agree."),
    ]  # fmt: skip


def _counted(n: int, level: Literal["note", "bad"], some: str, none: str) -> Sentence:
    return Sentence(level, f"{n:,} {some}.") if n else Sentence("good", none)


def _leak_sentences(audit: Audit) -> list[Sentence]:
    groups, near = audit.identical, audit.near
    copies = sum(len(group.names) - 1 for group in groups)
    across = sum(group.several_splits for group in groups)
    others = sum(group.several_patients for group in groups)
    mixed = sum(group.several_classes for group in groups)
    identical = f"files are copies of another file; {across} groups of copies span several splits, {others} several "
    identical += f"patients by name, {mixed} both classes"
    near_across, near_others = sum(not p.one_split for p in near.pairs), sum(not p.one_patient for p in near.pairs)
    pairs = f"near-duplicate pairs (at most {near.threshold} of {near.bits} bits differ): {near_across} across splits, "
    pairs += f"{near_others} of different patients, {near.other_patients_in_development} of the latter in train and val"
    found = [
        _counted(copies, "bad" if across or mixed else "note", identical, "No two files are identical."),
        _counted(len(near.pairs), "bad" if near_across or near_others else "note", pairs,
                 f"No two different files are near duplicates (at most {near.threshold} of {near.bits} bits)."),
        straddling_sentence(near.straddling),
    ]  # fmt: skip
    n_overlap = sum(len(overlap.patients) for overlap in audit.overlaps)
    text = f"patient names occur in two splits. {NUMBERING_NOTE.removesuffix('.')}"
    return [*found, _counted(n_overlap, "note", text, "No patient's name occurs in two splits.")]


def straddling_sentence(straddling: int | None) -> Sentence:
    """Return how many near-duplicate pairs have one image in training and one in validation; None if unknown."""
    if straddling is None:
        return Sentence("note", "There are too few patients for a validation split, so no pair can straddle it.")
    return Sentence(
        "bad" if straddling else "good", f"Near-duplicate pairs that straddle the validation split: {straddling}."
    )


def _balance_sentence(audit: Audit) -> Sentence:
    positive = class_words(audit.classes)[1]
    positive = positive.capitalize() if positive.islower() else positive
    shares = ", ".join(f"{percent(split.share)}% of {split.split}" for split in audit.balance.splits)
    differs = audit.balance.p < 0.05
    verdict = "the shares differ" if differs else "no significant difference"
    return Sentence("note" if differs else "good", f"{positive} is {shares}: {verdict} (p = {audit.balance.p:.2g}).")


def _model_sentences(comparisons: Sequence[ShiftComparison]) -> list[Sentence]:
    return [
        Sentence("note" if c.model.auc_low > 0.5 else "good",
                 f"A model of twelve plain features separates {c.first} from {c.second} with AUC {c.model.auc:.3f} "
                 f"(95% {c.model.auc_low:.3f} to {c.model.auc_high:.3f}; 0.5 is chance).")
        for c in comparisons if c.model
    ]  # fmt: skip


def print_audit(audit: Audit, console: Console | None = None) -> None:
    """Print the audit on a console, by default standard output."""
    out = console or Console()
    if audit.kind == "phantoms":
        out.print(phantom_warning())
    out.print(f"Audit of {audit.n_images:,} images in {printable(audit.folder)}", markup=False, highlight=False)
    for sentence in sentences(audit):
        out.print(f"{_MARKS[sentence.level]} {escape(sentence.text)}", highlight=False)
    out.print(_balance_table(audit))
    for comparison in audit.comparisons:
        out.print(_comparison_table(comparison))
    for table in _listings(audit):
        out.print(table)
    out.print(audit.note, markup=False, highlight=False)


_MARKS = {"good": "[green]ok  [/green]", "note": "[yellow]note[/yellow]", "bad": "[red]bad [/red]"}


def _balance_table(audit: Audit) -> Table:
    table = Table(title="Classes by split", caption=balance_line(audit))
    for heading in balance_headings(audit):
        table.add_column(escape(heading), justify="left" if heading == "split" else "right")
    for split in audit.balance.splits:
        table.add_row(*balance_cells(split))
    return table


def balance_headings(audit: Audit) -> list[str]:
    """Return the headings of the table of the classes by split."""
    return ["split", *audit.classes, f"{class_words(audit.classes)[1]} % (95%)"]


def balance_cells(split: SplitBalance) -> list[str]:
    """Return one row of the table with `balance_headings`."""
    share = f"{percent(split.share)} ({percent(split.share_low)} to {percent(split.share_high)})"
    return [split.split, *(f"{n:,}" for n in split.counts.values()), share]


def balance_line(audit: Audit) -> str:
    """Return the result of the chi-square test that all splits have the same share of the positive class."""
    balance = audit.balance
    freedom = f"{balance.freedom} degrees of freedom"
    return f"Test of equal shares in all splits: chi-square {balance.chi_square:.1f}, {freedom}, p = {balance.p:.2g}"


def _comparison_table(comparison: ShiftComparison) -> Table:
    title = escape(f"{comparison.first} ({comparison.n_first:,}) and {comparison.second} ({comparison.n_second:,})")
    table = Table(title=title)
    for heading in COMPARISON_HEADINGS:
        table.add_column(heading, justify="left" if heading == "feature" else "right", no_wrap=True)
    for cells in comparison_rows(comparison):
        table.add_row(*cells)
    return table


COMPARISON_HEADINGS = ("feature", "1st mean", "2nd mean", "diff., sd", "AUC (95%)")


def comparison_rows(comparison: ShiftComparison) -> list[list[str]]:
    """Return the rows of the table with `COMPARISON_HEADINGS`."""
    return [
        [f.feature.replace("_", " "), f"{f.first_mean:.3g}", f"{f.second_mean:.3g}", f"{f.standardised:+.2f}",
         f"{f.auc:.2f} ({f.auc_low:.2f}–{f.auc_high:.2f})"]
        for f in comparison.features
    ]  # fmt: skip


def _listings(audit: Audit) -> list[Table]:
    broken = [(image.name, image.reason) for image in audit.unreadable]
    odd = [(image.name, f"{image.width} x {image.height}: {image.odd}") for image in audit.odd]
    unlike = [(image.name, "; ".join(image.remarks)) for image in audit.unlike]
    coloured = [(image.name, f"{image.share:.1%} of the pixels") for image in audit.coloured]
    identical = [(", ".join(group.names), identical_text(group)) for group in worst_groups_first(audit.identical)]
    pairs = [(f"{pair.first}, {pair.second}", pair_text(pair)) for pair in worst_first(audit.near.pairs)]
    beyond = [(f"{pair.first}, {pair.second}", pair_text(pair)) for pair in audit.near.beyond]
    passed = [(each.example, f"{each.n:,} {each.reason}") for each in audit.passed_over]
    listings = {
        "Passed over, with an example of each reason": passed,
        "Cannot be decoded": broken,
        "Odd in size or aspect ratio": odd,
        "Very different from the training images": unlike,
        "Coloured": coloured,
        "Identical files": identical,
        "Near duplicates": pairs,
        "Nearest pairs of different patients above the threshold": beyond,
    }
    return [_listing(title, rows) for title, rows in listings.items() if rows]


def _listing(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    more = f"{len(rows) - _N_LISTED:,} more: see --json" if len(rows) > _N_LISTED else None
    table = Table(title=title, caption=more, show_header=False)
    for left, right in rows[:_N_LISTED]:
        table.add_row(escape(printable(left)), escape(printable(right)))
    return table


def worst_groups_first(groups: Sequence[IdenticalFiles]) -> list[IdenticalFiles]:
    """Return the groups sorted: those in several splits first, then those with both classes or several patients."""
    return sorted(groups, key=lambda g: (not g.several_splits, not g.several_classes, not g.several_patients))


def identical_text(group: IdenticalFiles) -> str:
    """Describe a group of identical files in a few words."""
    remarks = ["two splits" * group.several_splits, "two classes" * group.several_classes,
               "different patients" if group.several_patients else "one patient"]  # fmt: skip
    return ", ".join(filter(None, remarks))


def worst_first(pairs: Sequence[NearPair]) -> list[NearPair]:
    """Return the pairs sorted: across splits first, then of different patients, then the rest; nearest first."""
    return sorted(pairs, key=lambda pair: (pair.one_split, pair.one_patient, pair.distance))


def pair_text(pair: NearPair) -> str:
    """Describe a near-duplicate pair in a few words."""
    remarks = ["" if pair.one_split else "two splits", "one patient" if pair.one_patient else "different patients",
               "" if pair.one_class else "two classes",
               "straddles the validation split" if pair.straddles else ""]  # fmt: skip
    return ", ".join([f"{pair.distance} bits", *filter(None, remarks)])
