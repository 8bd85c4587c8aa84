"""`finish_answer`: which tokens of an answer and its tail are scored, for every rule and every length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.data import finish_answer
from unveil.data.end_of_answer import RULES, RULES_SCORING_EOS, RULES_WITH_CANVAS, check_rule
from unveil.errors import UserError

EOS = 0


@pytest.mark.parametrize(
    ("rule", "scored", "tail"),
    [
        ("one_eos", [7, 8, EOS], []),
        ("none", [7, 8], []),
        ("visible_tail", [7, 8], [EOS, EOS, EOS]),
        ("eos_visible_tail", [7, 8, EOS], [EOS, EOS]),
        ("scored_tail", [7, 8, EOS, EOS, EOS], []),
    ],
)
def test_each_rule_on_an_answer_with_room(rule, scored, tail):
    canvas = 5 if rule in RULES_WITH_CANVAS else None
    assert finish_answer([7, 8], EOS, rule, canvas, room=100) == (scored, tail, False)


@pytest.mark.parametrize("rule", RULES)
def test_an_answer_as_long_as_the_room_is_cut_only_where_an_eos_is_scored(rule):
    assert finish_answer([7, 8, 9], EOS, rule, None, room=3) == ([7, 8, 9], [], rule in RULES_SCORING_EOS)


@given(
    st.lists(st.integers(EOS, 9), max_size=12),
    st.sampled_from(RULES),
    st.none() | st.integers(1, 15),
    st.integers(0, 15),
)
def test_the_laws_of_every_rule(ids, rule, canvas, room):
    scored, tail, truncated = finish_answer(ids, EOS, rule, canvas, room)
    answer = list(ids)
    while answer and answer[-1] == EOS:
        answer.pop()
    limit = room if canvas is None else min(room, canvas)
    assert len(scored) + len(tail) <= limit
    assert set(tail) <= {EOS}
    if truncated:
        assert scored == answer[:limit]
        assert not tail
        assert len(answer) + (rule in RULES_SCORING_EOS) > limit
    else:
        assert scored[: len(answer)] == answer
        assert set(scored[len(answer) :]) <= {EOS}
        added = len(scored) - len(answer)
        assert added == {"one_eos": 1, "eos_visible_tail": 1, "scored_tail": limit - len(answer)}.get(rule, 0)
        if rule in RULES_WITH_CANVAS:
            assert len(scored) + len(tail) == limit
        else:
            assert tail == []


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.sampled_from(RULES), st.integers(0, 3))
def test_eos_tokens_written_at_the_end_of_the_text_change_nothing(ids, rule, extra):
    assert finish_answer(ids + [EOS] * extra, EOS, rule, None, 20) == finish_answer(ids, EOS, rule, None, 20)


def test_an_eos_inside_the_answer_is_an_ordinary_token():
    assert finish_answer([7, EOS, 8], EOS, "one_eos", None, 9) == ([7, EOS, 8, EOS], [], False)


def test_the_input_is_not_changed():
    ids = [7, 8, EOS]
    finish_answer(ids, EOS, "scored_tail", 6, 9)
    assert ids == [7, 8, EOS]


def test_without_eos_only_the_rule_none_works():
    assert finish_answer([7], None, "none", None, 9) == ([7], [], False)
    with pytest.raises(UserError, match="--end_of_answer one_eos: the tokenizer has no EOS token"):
        finish_answer([7], None, "one_eos", None, 9)


def test_wrong_rules_and_canvases_are_refused():
    with pytest.raises(UserError, match="--end_of_answer two_eos: unknown rule; use one of one_eos, none"):
        check_rule("two_eos", EOS)
    with pytest.raises(UserError, match="--canvas_length 8: has no meaning with --end_of_answer one_eos"):
        check_rule("one_eos", EOS, 8)
    with pytest.raises(UserError, match="--canvas_length 0: no room"):
        check_rule("visible_tail", EOS, 0)


@pytest.mark.parametrize("answer_length", [1, 11, 12, 13, 30])
def test_the_published_row_is_prompt_answer_and_visible_eos_up_to_the_context(answer_length):
    """ELBO-KTO: row = (prompt + answer)[:context] padded with visible EOS; L = min(context, total) - P is scored."""
    context, prompt = 16, [5, 6, 7, 8]
    answer = list(range(100, 100 + answer_length))
    scored, tail, truncated = finish_answer(answer, EOS, "visible_tail", None, context - len(prompt))
    published = (prompt + answer)[:context]
    published += [EOS] * (context - len(published))
    assert prompt + scored + tail == published
    assert len(scored) == max(min(context, len(prompt) + answer_length) - len(prompt), 0)
    assert truncated == (len(prompt) + answer_length > context)


def test_a_prompt_that_fills_the_published_context_leaves_nothing_to_score():
    for room in (0, -3):
        assert finish_answer([7, 8], EOS, "visible_tail", None, room) == ([], [], True)
