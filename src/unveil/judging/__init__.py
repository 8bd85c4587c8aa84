"""Which answer is better, and how sure are we?"""

from unveil.judging.comparison import Comparison, compare_answers
from unveil.judging.judge import BothOrders, Judge, Verdict, Winner, judge_both_orders
from unveil.judging.rating import RatingJudge
from unveil.judging.win_rate import WinRate, adjusted_win_rate, bootstrap_interval, cluster_means

__all__ = [
    "BothOrders",
    "Comparison",
    "Judge",
    "RatingJudge",
    "Verdict",
    "WinRate",
    "Winner",
    "adjusted_win_rate",
    "bootstrap_interval",
    "cluster_means",
    "compare_answers",
    "judge_both_orders",
]
