"""The human-rating judge agrees with people on texts whose ratings it never saw."""

import numpy as np
import pytest

from unveil.demo import human_rating_judge, judge_quality


@pytest.mark.parametrize("split", ["feedback", "tuning", "report"])
def test_it_agrees_with_people_on_other_texts(split):
    quality = judge_quality(split)
    assert quality["sign_accuracy"] >= 0.75
    assert quality["spearman"] >= 0.6
    assert abs(quality["length_spearman"]) < 0.1


def test_it_is_fitted_to_the_judge_split_only(monkeypatch):
    seen = []
    from unveil.demo import judge

    def recording(domain, *splits):
        seen.append((domain, splits))
        return judge_select(domain, *splits)

    judge_select = judge.select
    monkeypatch.setattr(judge, "select", recording)
    judge.human_rating_judge.__wrapped__()
    assert seen == [("film", ("judge",))]


def test_the_tag_and_the_case_do_not_count():
    judge = human_rating_judge()
    one, other, dull = judge.score(
        ["film: the story is told with wit and charm", "The story is told with wit and charm", "a dull mess"]
    )
    assert one == other > dull + judge.tie_margin
    assert judge.score([]).shape == (0,)
    assert np.isfinite(judge.score([""])).all()


def test_fitting_again_gives_the_same_scores():
    texts = ["film: a warm and funny film", "film: the plot is a mess"]
    again = human_rating_judge.__wrapped__()
    assert again.ridge.alpha_ == human_rating_judge().ridge.alpha_
    np.testing.assert_array_equal(again.score(texts), human_rating_judge().score(texts))
