"""The page of a study: what stands on it, and that nothing on it can run or be fetched."""

import io
import re
import tomllib

import pytest
from rich.console import Console

from pneumosearch.records.confirmation import Confirmation, FailedReplicate
from pneumosearch.records.trial import TestOpening
from pneumosearch.report import figures, figures_search
from pneumosearch.report.figures import INK
from pneumosearch.report.latest_confirmation import (
    MisclassifiedImage,
    candidates_table,
    confirmation_summary,
)
from pneumosearch.report.page import page
from pneumosearch.report.reproduce import study_file
from pneumosearch.report.tables import table_cells
from pneumosearch.studyfile import checked_spec
from tests.support.fake_confirmation import a_confirmation, named_by_repetition
from tests.support.fakes import a_history, a_study, a_trial
from tests.support.pages import HOSTILE, Elements, a_png, a_search, made_page

SECTIONS = [
    "verdict",
    "published",
    "elsewhere",
    "history",
    "curves",
    "hyperparameters",
    "training-images",
    "confirmation",
    "trials",
    "reproduce",
]


def test_page_names_the_folder_of_images_without_the_way_to_it() -> None:
    record = a_search()
    data = record.data.model_copy(update={"folder": "/home/somebody/chest_xray"})
    words = Elements(page(record.model_copy(update={"data": data}), None, top=5)).words
    assert "--data chest_xray" in words
    assert "somebody" not in words


def test_page_without_a_confirmation_says_so_and_gives_the_command() -> None:
    elements = Elements(made_page(confirmed=False))
    assert "No confirmation yet" in elements.words
    assert "pneumosearch confirm --name default --data chest_xray" in elements.words
    assert "the best of 8 complete trials with one seed each" in elements.words
    sections = [attributes["id"] for attributes in elements.attributes("section")]
    assert sections == [section for section in SECTIONS if section != "confirmation"]


def test_page_sets_the_figures_of_the_search_beside_those_on_repetition() -> None:
    confirmation = named_by_repetition(a_confirmation())
    words = Elements(page(a_search(), confirmation, top=5)).words
    for text in (
        "Winner by repetition, default 6",
        "on repetition, 3 fresh seeds, 3 of 5 folds. Written down 2026-02-03T04:05:00+00:00",
        "default 6, the winner 96.6 % 95.4 % ± 0.2 % +1.8 points +1.1 points",
        "default 3 96.9 % 94.9 % ± 0.3 % +2.1 points +0.5 points",
        "+0.4 to +3.8, 97.5%",
        "0.104",
    ):
        assert text in words, text
    assert "on repetition" not in Elements(made_page()).words
    assert confirmation_summary(confirmation)["naming"]["winner"] == 6


def test_lead_on_the_control_stands_on_the_page_in_the_table_and_in_json() -> None:
    confirmation = named_by_repetition(a_confirmation())
    _, winner = confirmation.comparisons
    control = winner.model_copy(update={"difference": 0.013, "low": -0.006, "high": 0.031, "mcnemar_p": 0.31})
    verdict = confirmation.verdict.model_copy(update={"beside_control": control})
    confirmation = confirmation.model_copy(update={"verdict": verdict})
    words = Elements(page(a_search(), confirmation, top=5)).words
    assert "Lead on the control+1.3 pointsof test accuracy; 95% from -0.6 to +3.1; the control had no search" in words
    assert "default 6, from the control +1.3 -0.6 to +3.1" in words
    rows = table_cells(candidates_table(confirmation))[1]
    start = next(place for place, row in enumerate(rows) if row[0] == "above the control, at 0.5")
    assert [row[1:] for row in rows[start + 1 : start + 4]] == [
        ["", "", "+1.3"],
        ["", "", "-0.6 to +3.1"],
        ["", "", "0.31"],
    ]
    assert confirmation_summary(confirmation)["verdict"]["beside_control"]["low"] == -0.006
    assert "in the last row from the control" in words
    of_another = verdict.model_copy(update={"beside_control": control.model_copy(update={"candidate": 1})})
    words = Elements(page(a_search(), confirmation.model_copy(update={"verdict": of_another}), top=5)).words
    assert "of test accuracy of default 3, the best that the search found; 95% from" in words
    assert "default 3, from the control +1.3" in words
    assert "the control" not in Elements(made_page()).words


def test_page_begins_with_the_verdict_of_a_confirmation() -> None:
    confirmation = a_confirmation()
    elements = Elements(made_page())
    assert [attributes["id"] for attributes in elements.attributes("section")] == SECTIONS
    words = elements.words
    assert (
        words.index("Confirmed: better than the baseline") < words.index("Trial 3 is better") < words.index("History")
    )
    accuracy = confirmation.candidates[1].at_half["accuracy"]
    assert f"{100 * accuracy.mean:.1f} ± {100 * accuracy.deviation:.1f}" in words
    assert "McNemar p" in words
    for published in ("86.2", "84.6", "Kermany 2018", "92.8"):
        assert published in words[words.index("Comparison with published results") :]


def test_failed_replicates_are_shown_beside_those_that_are_judged() -> None:
    confirmation = a_confirmation()
    baseline, winner, third = confirmation.candidates
    failure = FailedReplicate(trial=4, seed=winner.replicates[0].seed, reason="epoch 2: loss is nan")
    failed = winner.model_copy(update={"replicates": winner.replicates[1:], "failures": (failure,)})
    confirmation = confirmation.model_copy(update={"candidates": (baseline, failed, third)})
    words = Elements(page(a_search(), confirmation, top=5)).words
    assert "default 3 (1 of 3 failed)" in words
    assert f"default 3 {failure.seed} – epoch 2: loss is nan – – – – –" in words
    assert "test accuracy, mean of 2 seeds" in words
    assert table_cells(candidates_table(confirmation))[0][2] == "default 3 (1 of 3 failed)"
    assert confirmation_summary(confirmation)["candidates"][1]["failures"][0]["reason"] == "epoch 2: loss is nan"


def test_table_of_a_confirmation_has_a_column_for_each_candidate_and_fits_a_narrow_terminal() -> None:
    confirmation = named_by_repetition(a_confirmation())
    headings, rows = table_cells(candidates_table(confirmation))
    assert headings == ["", *(candidate.label for candidate in confirmation.candidates)]
    starts = [place for place, (title, *cells) in enumerate(rows) if title and not any(cells)]
    assert [rows[place][0] for place in starts] == [
        "at threshold 0.5",
        "at its own threshold",
        "above the baseline, at 0.5",
        "seed ensemble, at 0.5",
        "seed ensemble, own threshold",
    ]
    at_half, _, leads, _, of_ensembles = (
        {name: cells for name, *cells in rows[start + 1 : end]}
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)
    )
    assert leads["McNemar p, seed ensembles"][:2] == ["", "0.1"]
    for place, candidate in enumerate(confirmation.candidates):
        auc = candidate.at_half["auc"]
        assert at_half["AUC"][place] == f"{100 * auc.mean:.1f} ± {100 * auc.deviation:.1f}"
        own = candidate.ensemble_at_threshold.balanced_accuracy
        assert of_ensembles["balanced accuracy"][place] == f"{100 * own:.1f}"

    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(candidates_table(confirmation))
    assert all(row[0].strip() in console.export_text(clear=False) for row in rows)  # no line is broken
    assert "…" not in console.export_text()


def test_single_networks_have_no_seed_ensemble() -> None:
    confirmation = a_confirmation()
    single = [each.model_copy(update={"replicates": each.replicates[:1]}) for each in confirmation.candidates]
    rows = table_cells(candidates_table(confirmation.model_copy(update={"candidates": tuple(single)})))[1]
    assert next(row[1] for row in rows if "interval" in row[0]) == "–"
    assert not any(row[0].startswith("seed ensemble") for row in rows)


@pytest.mark.parametrize(
    ("conclusion", "headline"),
    [("worse", "Worse than the baseline"), ("no difference can be shown", "No difference from the baseline")],
)
def test_a_verdict_without_success_is_not_reported_as_one(conclusion: str, headline: str) -> None:
    confirmation = a_confirmation()
    verdict = confirmation.verdict.model_copy(update={"conclusion": conclusion})
    words = Elements(page(a_search(), confirmation.model_copy(update={"verdict": verdict}), top=5)).words
    assert headline in words
    assert "Confirmed" not in words


def test_phantoms_are_marked_clearly_and_never_compared_with_published_results() -> None:
    text = page(a_search("phantoms"), a_confirmation(), top=5)
    elements = Elements(text)
    assert [attributes.get("class") for attributes in elements.attributes("p")].count("phantoms") == 1
    assert elements.words.index("PHANTOMS: generated drawings") < elements.words.index("Confirmed")
    assert len(re.findall("<figcaption><strong>PHANTOMS", text)) == len(elements.attributes("svg"))
    assert "86.2" not in elements.words
    assert "Kermany" not in text


def test_nothing_hostile_can_run_and_nothing_is_fetched() -> None:
    opening = TestOpening(study=HOSTILE, trial=0, time=HOSTILE, why=HOSTILE, test_fingerprint=HOSTILE)
    record = a_search()
    data = record.data.model_copy(update={"folder": HOSTILE, "fingerprint": HOSTILE})
    last = record.trials[-1].model_copy(update={"failure": HOSTILE, "versions": {HOSTILE: HOSTILE}})
    changes = {"name": HOSTILE, "data": data, "test_openings": (opening,), "trials": (*record.trials[:-1], last)}
    confirmation = _hostile_confirmation()
    text = page(record.model_copy(update=changes), confirmation, [MisclassifiedImage("x", 0, a_png())], top=5)
    elements = Elements(text)
    assert not elements.attributes("script")
    assert "<script>alert(1)</script>" in elements.text  # as text
    assert "\x1b" not in text
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), tag
    assert "url(http" not in text
    assert "default-src 'none'" in elements.attributes("meta")[2]["content"]


def test_page_on_own_classes_has_their_names_and_no_published_figure() -> None:
    record, wrong = a_search(), [MisclassifiedImage("x", 0, a_png())]
    published = Elements(made_page(pictures=True)).words
    own = record.model_copy(update={"data": record.data.model_copy(update={"classes": ("<b>OK", "T$B$")})})
    text = page(own, a_confirmation(), wrong, top=5)
    words = Elements(text).words
    for figure in ("Kermany", "published train", "published results"):
        assert figure in published
        assert figure not in text
    assert "predicted pneumonia" in published
    assert "pneumonia" not in text.lower().replace("test/pneumonia", "")
    assert "predicted T$B$" in words
    assert "images with T$B$ (%)" in words
    assert "classified as <b>OK" in words


def _hostile_confirmation() -> Confirmation:
    confirmation = a_confirmation(study=HOSTILE)
    verdict = confirmation.verdict.model_copy(update={"sentences": (HOSTILE,)})
    changes = {"images": (HOSTILE, *confirmation.images[1:]), "trained_on": HOSTILE, "verdict": verdict}
    return confirmation.model_copy(update=changes)


def test_hostile_labels_are_text_in_figures_with_dollar_signs_as_they_are() -> None:
    text = page(a_search(), a_confirmation(study="<b>$a_1$</b>"), top=5)
    figures = re.findall(r'<svg[^>]*aria-label="Test accuracies.*?</svg>', text, re.DOTALL)
    assert "&lt;b&gt;$a_1$&lt;/b&gt; 3" in figures[0]
    assert "<b>" not in text


def test_every_figure_has_a_text_and_names_of_its_own() -> None:
    text = made_page(pictures=True)
    elements = Elements(text)
    figures = elements.attributes("svg")
    assert len(figures) >= 10
    assert all(figure["role"] == "img" and re.search(r"\d.*\.$", figure["aria-label"]) for figure in figures)
    assert all(re.search("classified as|A phantom, .*: ", image["alt"]) for image in elements.attributes("img"))
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    assert {link["xlink:href"][1:] for link in elements.attributes("use")} <= set(names)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(names)


def test_page_shows_what_training_does_to_an_image_at_its_strongest_in_the_study() -> None:
    trials = [a_trial(0, 0.7), a_trial(1, 0.8, zoom=0.0, gamma=0.25), a_trial(2, 0.8, gamma=0.5, jpeg_loss=60)]
    elements = Elements(page(a_study(*trials), None, top=5))
    shown = [image["alt"] for image in elements.attributes("img")]
    assert "A phantom, gamma: to the power 1.50" in shown
    assert "A phantom, jpeg_loss: quality 40" in shown
    assert "A phantom, zoom: sides times 0.70" in shown
    assert len(shown) == 2 * len(("zoom", "vertical_flip", "gamma", "jpeg_loss"))
    assert len({image["src"] for image in elements.attributes("img")}) == len(shown)
    still = page(a_study(a_trial(1, 0.8, zoom=0.0, vertical_flip=False)), None, top=5)
    assert "What training does to an image" not in still


def test_figures_take_the_colour_of_the_text_and_are_the_same_every_time() -> None:
    drawn, repeated = figures_search.history(a_search()), figures_search.history(a_search())
    assert drawn is not None
    assert drawn == repeated
    assert "currentColor" in drawn.svg
    assert INK not in drawn.svg
    assert "<style" not in drawn.svg  # it would hold for the whole page


def test_history_labels_the_published_level_as_test_accuracy_and_only_draws_it_for_accuracy() -> None:
    record = a_search()
    drawn = figures_search.history(record)
    assert drawn is not None
    assert "published TEST accuracy, 86.2 % (epoch 5)" in drawn.svg
    assert "the best is trial 0; the baseline has 90.0 %" in drawn.svg
    other = figures_search.history(record.model_copy(update={"metric": "auc"}))
    assert other is not None
    assert "published" not in other.svg
    assert "0.9000" in other.svg


def test_a_study_without_a_complete_trial_has_a_page() -> None:
    elements = Elements(page(a_study(a_trial(0, state="running")), None, top=5))
    assert "No confirmation yet" in elements.words
    assert not elements.attributes("svg")


def test_a_baseline_under_the_original_protocol_has_a_page_with_its_test_curve() -> None:
    trial = a_trial(0, 0.62, 0.8).model_copy(update={"history": a_history(0.62, 0.8, evaluated="test")})
    record = a_study(trial).model_copy(update={"purpose": "baseline", "spec": {"protocol": "original"}})
    text = page(record, None, top=5)
    words = Elements(text).words
    assert "pneumosearch baseline --protocol original --data chest_xray" in words
    assert "pneumosearch confirm" not in words
    assert "baseline here, test" in words
    sections = [attributes["id"] for attributes in Elements(text).attributes("section")]
    assert sections == ["verdict", "published", "curves", "training-images", "trials", "reproduce"]


def test_trials_without_a_result_are_listed_with_their_reasons() -> None:
    words = Elements(page(a_search(), None, top=5)).words
    assert "Trials without a result trial state reason 9 failed out of memory" in words


def test_many_trials_make_a_page_of_bounded_size() -> None:
    trials = [a_trial(n, 0.7, 0.8, 0.8 + n / 5000, zoom=(n % 10) / 20) for n in range(600)]
    text = page(a_study(*trials), None, top=5)
    assert len(text) < 1_500_000
    assert "<image" in text
    assert "faint lines" not in text


def test_of_thousands_of_lines_a_share_is_drawn_and_the_caption_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MAX_LINES", 40)
    trials = [a_trial(n, 0.7, 0.8, 0.8 + n / 5000, zoom=(n % 10) / 20) for n in range(100)]
    words = Elements(page(a_study(*trials), None, top=5)).words
    assert "accuracy (%). 40 of 100 faint lines are drawn" in words
    assert "40 of 90 faint lines are drawn" in words  # those that are not the best
    assert figures.thinned(list(range(100)))[0] == [n * 5 // 2 for n in range(40)]


def test_study_file_of_the_page_reads_back_as_the_stored_study() -> None:
    space = {"zoom": {"low": 0.0, "high": 0.5, "when": {"lr_schedule": ["cosine", "plateau"]}}}
    given: dict[str, object] = {
        "name": "a-b",
        "space": space,
        "fixed": {"image_size": 64, "early_stopping": True},
        "timeout": None,
    }
    spec = checked_spec(given, "test")
    record = a_search().model_copy(update={"name": "a-b", "spec": spec.identity()})
    assert checked_spec(tomllib.loads(study_file(record)), "page") == spec
