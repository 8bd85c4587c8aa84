"""The built-in demo's data: human ratings of short reviews, their splits, and a judge fitted to other ratings."""

from unveil.demo.judge import HumanRatingJudge, human_rating_judge, judge_quality
from unveil.demo.reviews import feedback_rows, heldout_text, prompts, replay_rows, shuffled_thumbs

__all__ = [
    "HumanRatingJudge",
    "feedback_rows",
    "heldout_text",
    "human_rating_judge",
    "judge_quality",
    "prompts",
    "replay_rows",
    "shuffled_thumbs",
]
