"""Which answer is better, and how sure are we?"""

from unveil.judging.agreement import JudgeAgreement, SelfConsistency, judge_agreement, self_consistency
from unveil.judging.alpha import krippendorff_alpha
from unveil.judging.bootstrap import bootstrap_interval, bootstrap_sums
from unveil.judging.clusters import cluster_means
from unveil.judging.comparison import Comparison, compare_answers, comparison_of, comparison_or_unread
from unveil.judging.disagreement import Disagreement, disagreements
from unveil.judging.judge import BothOrders, Judge, Verdict, Winner, judge_both_orders
from unveil.judging.judgement import Judgement, judge_answers
from unveil.judging.kappa import Agreement, cohen_kappa
from unveil.judging.length_control import LengthControlledWinRate, length_controlled_win_rate
from unveil.judging.multiple_comparisons import benjamini_hochberg, holm
from unveil.judging.panel import Panel, PanelVerdict
from unveil.judging.position import PositionBias, position_bias
from unveil.judging.power import deviation_from_even, minimum_detectable_difference, prompts_needed
from unveil.judging.rating import RatingJudge
from unveil.judging.reward import RewardJudge
from unveil.judging.sign_test import SignTest, clopper_pearson, sign_test
from unveil.judging.unread import Unread
from unveil.judging.usage import Usage
from unveil.judging.verifier import Check, VerifierJudge
from unveil.judging.win_rate import WinRate, adjusted_win_rate, mean_interval

__all__ = [
    "Agreement",
    "BothOrders",
    "Check",
    "Comparison",
    "Disagreement",
    "Judge",
    "JudgeAgreement",
    "Judgement",
    "LengthControlledWinRate",
    "Panel",
    "PanelVerdict",
    "PositionBias",
    "RatingJudge",
    "RewardJudge",
    "SelfConsistency",
    "SignTest",
    "Unread",
    "Usage",
    "Verdict",
    "VerifierJudge",
    "WinRate",
    "Winner",
    "adjusted_win_rate",
    "benjamini_hochberg",
    "bootstrap_interval",
    "bootstrap_sums",
    "clopper_pearson",
    "cluster_means",
    "cohen_kappa",
    "compare_answers",
    "comparison_of",
    "comparison_or_unread",
    "deviation_from_even",
    "disagreements",
    "holm",
    "judge_agreement",
    "judge_answers",
    "judge_both_orders",
    "krippendorff_alpha",
    "length_controlled_win_rate",
    "mean_interval",
    "minimum_detectable_difference",
    "position_bias",
    "prompts_needed",
    "self_consistency",
    "sign_test",
]
