"""The figure of `unveil compare`, and its page to read what divides the judges, or a judge from itself."""

from collections.abc import Mapping, Sequence

from unveil.judging import Comparison, Disagreement, Judgement, Unread, Verdict, disagreements
from unveil.report import (
    Gallery,
    Opinion,
    Paragraph,
    Picture,
    Rate,
    Reading,
    Readings,
    Section,
    Table,
    page,
    rate_dots,
)

SHOWN, AGREED_SHOWN = 300, 10


def win_rate_figure(comparisons: Sequence[Comparison | Unread], nulls: Sequence[Comparison | Unread]) -> bytes | None:
    """Win rates with intervals per judge: plain, at equal lengths, and of B against itself; None if none is known."""
    rates = []
    for result in comparisons:
        if isinstance(result, Unread):
            continue
        plain, control = result.win_rate, result.length_controlled
        rates.append(Rate("A against B", result.judge, plain.rate, plain.low, plain.high))
        rates.append(Rate("at equal lengths", result.judge, control.rate, control.low, control.high))
    rates.sort(key=lambda rate: rate.row)
    for null in nulls:
        if isinstance(null, Unread):
            continue
        rate = null.win_rate
        rates.append(Rate("B against B", null.judge, rate.rate, rate.low, rate.high, hollow=True))
    return rate_dots(rates) if rates else None


def disagreement_page(
    names: Mapping[str, str],
    judgements: Sequence[Judgement],
    comparisons: Sequence[Comparison | Unread],
    figure: bytes | None,
) -> str:
    """One HTML file: the most divided pairs first, then some on which all agree; every text is escaped."""
    found = disagreements(judgements)
    groups = {
        "The judges differ": [one for one in found if one.between],
        "A judge changes with the order": [one for one in found if one.orders and not one.between],
        "No verdict could be read": [one for one in found if one.unparsed and not (one.between or one.orders)],
    }
    left, sections = SHOWN, [Section("Win rates", [*_gallery(figure), _table(comparisons)])]
    for title, members in groups.items():
        if members:
            shown = members[: max(left, 0)]
            left -= len(shown)
            sections.append(_section(title, members, shown, judgements))
    agreed = [one for one in found if not one.any]
    if agreed:
        sections.append(_section("All agree", agreed, agreed[:AGREED_SHOWN], judgements))
    divided = sum(one.any for one in found)
    return page(
        "unveil compare: where the verdicts differ",
        f"A is {names['A']}, B is {names['B']}; {divided} of {len(found)} pairs divide the judges or their orders",
        sections,
        "Made by `unveil compare`. All pairs and verdicts are in comparisons.jsonl, all numbers in compare.json.",
    )


def _table(comparisons: Sequence[Comparison | Unread]) -> Table:
    rows = []
    for result in comparisons:
        if isinstance(result, Unread):
            rows.append((result.judge, "not known", f"none of {result.asked} could be read", ""))
            continue
        rate, place = result.win_rate, result.position
        rows.append(
            (
                result.judge,
                f"{rate.rate:.3f}  [{rate.low:.3f}, {rate.high:.3f}]",
                f"{rate.wins} won, {rate.ties} tied, {rate.losses} lost, {result.unparsed} unread",
                f"{place.first.rate:.3f} for the answer read first" if place else _placeless(result),
            )
        )
    return Table(["judge", "win rate of A", "verdicts", "position"], rows)


def _placeless(result: Comparison) -> str:
    return "does not matter" if result.asked else "no pair was asked"


def _gallery(figure: bytes | None) -> list[Gallery]:
    if figure is None:
        return []
    caption = "Win rate of A with 95 % intervals over prompts; ties count half. At equal lengths: see docs/judging.md."
    return [Gallery([Picture(figure, "Win rates", caption)])]


def _section(
    title: str, members: Sequence[Disagreement], shown: Sequence[Disagreement], judgements: Sequence[Judgement]
) -> Section:
    said = f"{len(members)} pairs" if len(members) != 1 else "1 pair"
    if len(shown) < len(members):
        said += f", of which {len(shown)} are shown"
    return Section(title, [Paragraph(f"{said}."), Readings(("A", "B"), [_reading(one, judgements) for one in shown])])


def _reading(one: Disagreement, judgements: Sequence[Judgement]) -> Reading:
    first = judgements[0]
    marks = [f"pair {one.place}"]
    if one.between:
        marks.append("opposite verdicts" if one.between == 1 else f"distance between judges {one.between:.2f}")
    if one.orders:
        marks.append("the order turns a verdict round" if one.orders == 1 else "the order decides a tie")
    if one.unparsed:
        marks.append(f"{one.unparsed} unread")
    return Reading(
        " · ".join(marks),
        first.prompts[one.place],
        (first.answers_a[one.place], first.answers_b[one.place]),
        [_opinion(judgement, one.place) for judgement in judgements],
    )


def _opinion(judgement: Judgement, place: int) -> Opinion:
    verdict = judgement.verdicts[place]
    side = {"A": 0, "B": 1}.get(verdict.winner) if verdict.parsed else None
    if judgement.orders is None:
        return Opinion(judgement.judge, _word(verdict), side, [("", verdict.reason)] if verdict.reason else [])
    orders = (("A first", judgement.orders.a_first[place]), ("B first", judgement.orders.b_first[place]))
    reasons = [(f"{order}, {_word(given)}", given.reason or "no reason given") for order, given in orders]
    return Opinion(judgement.judge, _word(verdict), side, reasons)


def _word(verdict: Verdict) -> str:
    return verdict.winner if verdict.parsed else "not read"
