from pneumosearch.config import TrialConfig
from pneumosearch.search.dry_run import dimension_text, dry_run
from pneumosearch.space import Choice, Range
from pneumosearch.studyfile import StudySpec
from tests.support.fakes import a_study, a_trial


def test_plan_begins_with_the_baseline_and_what_a_search_would_propose() -> None:
    planned = dry_run(StudySpec(), 50, None)
    assert [trial.config.changes() == {} for trial in planned.first] == [True, False, False, False, False]
    assert planned.seconds is None
    assert dry_run(StudySpec(), 50, None) == planned
    assert len(dry_run(StudySpec(), 2, None).first) == 2


def test_plan_tells_the_time_by_what_earlier_trials_took() -> None:
    planned = dry_run(StudySpec(), 50, a_study(a_trial(0, 0.9, 0.9)))  # the fakes' epochs take a second
    assert planned.first[0].seconds_an_epoch == 1.0
    assert planned.seconds is not None
    assert 50 * 5 * 0.2 < planned.seconds < 50 * 10 * 4
    assert planned.as_dict()["first"][0]["n_parameters"] == 2_314_337


def test_ranges_are_said_in_words() -> None:
    assert dimension_text(Choice(choices=(16, 32))) == "16, 32"
    assert dimension_text(Range(low=1e-4, high=0.01, log=True)) == "0.0001 to 0.01, logarithmic"
    warm_up = Range(low=0.0, high=2.0, step=0.5, when={"lr_schedule": ("cosine",)})
    assert dimension_text(warm_up) == "0.0 to 2.0 by 0.5 (when lr_schedule is cosine)"
    assert TrialConfig().lr_schedule == "plateau"
