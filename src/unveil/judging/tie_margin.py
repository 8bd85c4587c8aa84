"""Two scores and how close they must be to tie: shared by the judges that score each answer by itself."""

from unveil.errors import UserError
from unveil.judging.judge import Verdict


def higher_wins(score_a: float, score_b: float, tie_margin: float) -> Verdict:
    """The verdict for the higher score; scores that differ by at most `tie_margin` tie."""
    reason = f"{score_a:.4g} against {score_b:.4g}"
    if abs(score_a - score_b) <= tie_margin:
        return Verdict("tie", reason)
    return Verdict("A" if score_a > score_b else "B", reason)


def check_tie_margin(judge: str, tie_margin: float) -> None:
    """Refuse a margin below 0 (or NaN) of the judge of that name."""
    if not tie_margin >= 0:
        raise UserError(f"judge {judge}: tie_margin is {tie_margin}; give 0 or more")
