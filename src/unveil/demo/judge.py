"""The human-rating judge: ridge regression from TF-IDF words and bigrams to the mean human rating of a film snippet.

It is fitted to the ratings of the `judge` split only. Those texts never give feedback, so a policy cannot win by
learning the judge's own training examples; it can still win by pleasing a bag of words, which is what the outside
witnesses and the NELBO beside it in the demo's report are for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from unveil.demo.reviews import Review, select
from unveil.demo.text import normalise, without_tag

ALPHAS = (0.1, 0.3, 1.0, 3.0)
# In rating points. One mean of about 19 human ratings has a standard error of 0.21, so half of that is no opinion.
TIE_MARGIN = 0.1


@dataclass(frozen=True)
class HumanRatingJudge:
    """`score(texts)` predicts mean human ratings (about -4 to 4); alpha from 5-fold CV on the judge split."""

    vectorizer: TfidfVectorizer
    ridge: RidgeCV
    name: str = "human ratings"
    tie_margin: float = TIE_MARGIN

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Predicted rating of each whole text (prompt and answer; a leading domain tag is ignored). Shape [N]."""
        if not texts:
            return np.zeros(0)
        clean = [normalise(without_tag(text)) for text in texts]
        return np.asarray(self.ridge.predict(self.vectorizer.transform(clean)), dtype=np.float64)


@cache
def human_rating_judge() -> HumanRatingJudge:
    """Fit the judge (under a second, once per process; the same numbers every time)."""
    texts, ratings = _texts_and_ratings(select("film", "judge"))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[a-z0-9']+")
    features: Any = vectorizer.fit_transform(texts)
    # Folds see the whole split's word weights; that leaks no ratings. Agreement with people is flat below alpha 0.3.
    ridge = RidgeCV(ALPHAS, cv=KFold(5, shuffle=True, random_state=0)).fit(features, ratings)
    return HumanRatingJudge(vectorizer, ridge)


def judge_quality(split: str = "feedback") -> dict[str, float]:
    """How the judge agrees with people on texts it was not fitted to: `"feedback"`, `"tuning"` or `"report"`.

    `sign_accuracy`: share of the snippets with a thumb whose predicted rating has the thumb's sign.
    `spearman`: rank correlation with the mean rating, on all snippets. `length_spearman`: with the number of words.
    """
    texts, ratings = _texts_and_ratings(select("film", split))
    predicted = human_rating_judge().score(texts)
    thumbs = np.array([review.thumb is not None for review in select("film", split)])
    lengths = [len(text.split()) for text in texts]
    return {
        "n": float(len(texts)),
        "sign_accuracy": float(((predicted > 0) == (ratings > 0))[thumbs].mean()),
        "spearman": _rank_correlation(ratings, predicted),
        "length_spearman": _rank_correlation(np.array(lengths), predicted),
    }


def _rank_correlation(ratings: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    return float(np.asarray(spearmanr(ratings, predicted))[0])


def _texts_and_ratings(reviews: Sequence[Review]) -> tuple[list[str], NDArray[np.float64]]:
    return [review.text for review in reviews], np.array([review.rating for review in reviews])
