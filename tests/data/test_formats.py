"""Row formats: what each accepts, what it refuses and how rows keep their number."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from unveil.data import load_rows, prompt_rows, sft_rows, unpaired_rows
from unveil.data.bad_rows import BadRow
from unveil.data.conversation import split_common_start
from unveil.errors import UserError, UserInputWarning

USER = {"role": "user", "content": "What is the capital of France?"}
RIGHT = {"role": "assistant", "content": "Paris."}
WRONG = {"role": "assistant", "content": "Rome."}
UP = {"prompt": "a", "completion": "yes", "label": True}
DOWN = {"prompt": "b", "completion": "no", "label": False}
BLANK = {"prompt": "c", "completion": " \n", "label": True}


def rows_of(*rows: dict) -> Dataset:
    return Dataset.from_list(list(rows))


def test_unpaired_rows_keep_their_values_and_get_their_row_number():
    assert list(unpaired_rows(rows_of(UP, DOWN), "f")) == [{"example_id": 0, **UP}, {"example_id": 1, **DOWN}]


def test_other_columns_are_left_behind():
    rows = rows_of({**UP, "score": 1}, {**DOWN, "score": 2})
    assert unpaired_rows(rows, "f").column_names == ["example_id", "prompt", "completion", "label"]


@pytest.mark.parametrize("completion", ["Paris.", [RIGHT]])
def test_conversational_prompts_take_a_message_or_a_string_as_completion(completion):
    rows = rows_of(
        {"prompt": [USER], "completion": completion, "label": True},
        {"prompt": [USER], "completion": completion, "label": False},
    )
    row = unpaired_rows(rows, "f")[0]
    assert row["prompt"] == [USER]
    assert row["completion"] == "Paris."


def test_pairs_become_two_rows_with_ids_of_their_row():
    rows = unpaired_rows(rows_of(*[{"prompt": f"p{i}", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(3)]), "f")
    assert rows["example_id"][:] == [0, 1, 2, 3, 4, 5]
    assert rows[4] == {"example_id": 4, "prompt": "p2", "completion": "c2", "label": True}
    assert rows[5] == {"example_id": 5, "prompt": "p2", "completion": "r2", "label": False}


def test_the_prompt_of_a_conversational_pair_is_its_common_start():
    rows = unpaired_rows(rows_of({"chosen": [USER, RIGHT], "rejected": [USER, WRONG]}), "f")
    assert [row["completion"] for row in rows] == ["Paris.", "Rome."]
    assert rows[0]["prompt"] == rows[1]["prompt"] == [USER]


def test_a_text_prompt_beside_conversations_that_hold_it_gives_way_to_them():
    rows = rows_of({"prompt": USER["content"], "chosen": [USER, RIGHT], "rejected": [USER, WRONG]})
    assert unpaired_rows(rows, "f")[0]["prompt"] == [USER]


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "rest"),
    [
        ("Q: hi A: yes", "Q: hi A: no", "Q: hi A:", (" yes", " no")),
        ("The sky is blue", "The sky is black", "The sky is", (" blue", " black")),
        ("Q\n\nyes", "Q\n\nno", "Q", ("\n\nyes", "\n\nno")),
        ("The sky is", "The sky is blue", "The sky is", ("", " blue")),
    ],
)
def test_the_common_start_of_texts_ends_with_a_whole_word(chosen, rejected, prompt, rest):
    assert split_common_start(chosen, rejected) == (prompt, *rest)


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=6), st.text("ab ", max_size=6))
def test_splitting_a_text_pair_loses_no_character(start, one, other):
    try:
        prompt, chosen, rejected = split_common_start(start + one, start + other)
    except BadRow:
        return
    assert prompt + chosen == start + one
    assert prompt + rejected == start + other
    assert not chosen[:1].strip() or not rejected[:1].strip() or chosen[:1] != rejected[:1]


def test_pairs_without_a_common_start_are_refused():
    with pytest.raises(UserError, match=r"no common start .*\(rows, from 0: 0\); add a prompt column"):
        unpaired_rows(rows_of({"chosen": "yes", "rejected": "no"}), "f")
    with pytest.raises(UserError, match="are the same text, so that no prompt can be found"):
        unpaired_rows(rows_of({"chosen": "a b", "rejected": "a b"}), "f")


def test_identical_pairs_are_kept_and_counted():
    same = {"prompt": "p", "chosen": "x", "rejected": "x"}
    rows = rows_of({"prompt": "p", "chosen": "x", "rejected": "y"}, same, same)
    with pytest.warns(UserInputWarning, match=r"f: chosen and rejected are the same in 2 of 3 pairs \(row 1, 2\)"):
        assert len(unpaired_rows(rows, "f")) == 6


def test_a_conversational_pair_with_one_answer_is_an_identical_pair_not_a_crash():
    rows = rows_of({"chosen": [USER, RIGHT], "rejected": [USER, RIGHT]})
    with pytest.warns(UserInputWarning, match="the same in 1 of 1 pairs"):
        assert unpaired_rows(rows, "f")["completion"][:] == ["Paris.", "Paris."]


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (1, "write true for desirable and false for undesirable"),
        (0.0, "write true for desirable"),
        ("maybe", "write true or false, or say what it means with --label_map maybe=true"),
        (None, "give every row a label"),
        ([True], "write true or false"),
    ],
)
def test_a_label_that_is_not_boolean_names_row_value_and_remedy(value, remedy):
    rows = Dataset.from_list([{**UP, "label": value}])
    with pytest.raises(UserError) as caught:
        unpaired_rows(rows, "thumbs.jsonl", on_bad_rows="drop")
    message = str(caught.value)
    assert message.startswith(f"thumbs.jsonl: 1 of 1 rows cannot be used: label is {value!r}")
    assert "(rows, from 0: 0)" in message
    assert remedy in message


def test_a_missing_label_in_a_later_row_is_named():
    with pytest.raises(UserError, match=r"label is None .*from 0: 2\)"):
        unpaired_rows(rows_of(UP, DOWN, {**UP, "label": None}), "f")


def test_class_labels_are_read_by_their_names_and_not_by_their_numbers():
    def rows(*names: str) -> Dataset:
        features = Features(
            {"prompt": Value("string"), "completion": Value("string"), "label": ClassLabel(names=list(names))}
        )
        return Dataset.from_list([{**UP, "label": 1}, {**DOWN, "label": 0}], features=features)

    with pytest.warns(UserInputWarning, match=r"labels are read so: 'no' \(1 rows\) as false|'yes' \(1 rows\) as true"):
        assert unpaired_rows(rows("yes", "no"), "f")["label"][:] == [False, True]
    with pytest.raises(UserError, match=r"label is 'b' \(str\), not a boolean"):
        unpaired_rows(rows("a", "b"), "f")


def test_numpy_and_arrow_booleans_are_booleans():
    numpy_rows = Dataset.from_dict({"prompt": ["a", "b"], "completion": ["x", "y"], "label": np.array([True, False])})
    arrow_rows = Dataset(pa.table({"prompt": ["a", "b"], "completion": ["x", "y"], "label": pa.array([True, False])}))
    for rows in (numpy_rows, arrow_rows, arrow_rows.with_format("numpy")):
        assert unpaired_rows(rows, "f")["label"][:] == [True, False]


@pytest.mark.parametrize(("kept", "word"), [(UP, "true"), (DOWN, "false")])
def test_one_label_only_is_refused_unless_allowed(kept, word):
    rows = rows_of(kept, kept)
    with pytest.raises(UserError, match=f"f: every label is {word}.*--allow_one_label"):
        unpaired_rows(rows, "f")
    assert len(unpaired_rows(rows, "f", allow_one_label=True)) == 2


def test_dropping_rows_may_leave_one_label_and_then_says_so():
    blank = {**DOWN, "completion": ""}
    with (
        pytest.warns(UserInputWarning, match="the completion is empty"),
        pytest.raises(UserError, match="every label is true"),
    ):
        unpaired_rows(rows_of(UP, blank), "f", on_bad_rows="drop")


def test_bad_rows_are_an_error_that_names_file_rows_and_remedy():
    message = r"f: 3 of 5 rows cannot be used: the completion is empty \(rows, from 0: 1, 4\), the prompt is empty "
    message += r"\(rows, from 0: 3\); correct or remove them, or leave them out with --on_bad_rows drop"
    with pytest.raises(UserError, match=message):
        unpaired_rows(rows_of(UP, BLANK, DOWN, {**UP, "prompt": ""}, {**UP, "completion": None}), "f")


def test_dropped_rows_are_counted_and_the_others_keep_their_number():
    with pytest.warns(UserInputWarning, match=r"f: 1 of 3 rows cannot be used: .*from 0: 1\); they are left out"):
        rows = unpaired_rows(rows_of(UP, BLANK, DOWN), "f", on_bad_rows="drop")
    assert rows["example_id"][:] == [0, 2]


def test_a_bad_half_makes_the_whole_pair_bad():
    rows = rows_of(
        {"prompt": "p", "chosen": "x", "rejected": ""},
        {"prompt": "p", "chosen": "x", "rejected": "y"},
    )
    with pytest.warns(UserInputWarning, match=r"the rejected completion is empty \(rows, from 0: 0\)"):
        assert unpaired_rows(rows, "f", on_bad_rows="drop")["example_id"][:] == [2, 3]


def test_dropping_everything_is_an_error():
    with pytest.raises(UserError, match="--on_bad_rows drop leaves nothing"):
        unpaired_rows(rows_of(BLANK), "f", on_bad_rows="drop")
    with pytest.raises(UserError, match="--on_bad_rows skip: unknown choice; use error or drop"):
        unpaired_rows(rows_of(UP, DOWN), "f", on_bad_rows="skip")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="f: there are no rows"):
        unpaired_rows(rows_of(UP, DOWN).select([]), "f")


@pytest.mark.parametrize(
    ("prompt", "completion", "reason"),
    [
        ([USER], [RIGHT, USER, WRONG], "the completion is a list of 3 messages; give|the completion is a list of 3"),
        ([USER], [USER], "the completion is not an assistant message"),
        ("plain", [RIGHT], "the prompt is plain text but the completion is a list of messages"),
        ([USER, RIGHT], "text", "the prompt ends with an assistant message"),
        ([], "text", "the prompt is empty"),
        ([{"role": None, "content": "x"}], "text", "the prompt holds a message without a role"),
        ([{"role": "user", "content": None}], "text", "the prompt holds a message without content"),
        ([{"from": "human", "value": "x"}], "text", "the prompt holds a message without a role"),
        (3, "text", "the prompt is neither text nor a list of messages but int"),
        ("plain", 3, "the completion is not text but int"),
    ],
)
def test_malformed_conversations_are_explained(prompt, completion, reason):
    with pytest.raises(UserError, match=reason):
        sft_rows(rows_of({"prompt": prompt, "completion": completion}), "f")


def test_missing_columns_are_listed_with_those_present_and_the_way_to_map():
    rows = rows_of({"prompt": "a", "completion": "b", "kto_tag": True})
    message = r"f: no column 'label'; the columns are 'prompt', 'completion', 'kto_tag', needed are .*"
    message += "name the right one with --column_map YOUR_COLUMN=label"
    with pytest.raises(UserError, match=message):
        unpaired_rows(rows, "f")


def test_a_column_map_renames_and_nothing_is_guessed():
    rows = rows_of({"q": "a", "prompt": "b", "kto_tag": True}, {"q": "c", "prompt": "d", "kto_tag": False})
    mapped = unpaired_rows(rows, "f", column_map={"q": "prompt", "prompt": "completion", "kto_tag": "label"})
    assert mapped[0] == {"example_id": 0, "prompt": "a", "completion": "b", "label": True}


@pytest.mark.parametrize(
    ("column_map", "message"),
    [
        ({"tag": "label"}, "--column_map tag=label: there is no column 'tag'; the columns are 'prompt'"),
        ({"prompt": "completion"}, "there is a column 'completion' already"),
        ({"prompt": "x", "completion": "x"}, "gives two columns the same name"),
    ],
)
def test_a_wrong_column_map_is_explained(column_map, message):
    with pytest.raises(UserError, match=message):
        unpaired_rows(rows_of(UP, DOWN), "f", column_map=column_map)


def test_an_own_example_id_is_kept_and_doubled_for_pairs():
    rows = rows_of({**UP, "example_id": 70}, {**DOWN, "example_id": 5})
    assert unpaired_rows(rows, "f")["example_id"][:] == [70, 5]
    pairs = rows_of({"example_id": 9, "prompt": "p", "chosen": "x", "rejected": "y"})
    assert unpaired_rows(pairs, "f")["example_id"][:] == [18, 19]


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([1, 1], r"an id more than once \(rows 1,"),
        (["a", "b"], "it holds 'a'"),
        ([-1, 2], "it holds -1"),
        ([1.0, 2.0], "it holds 1.0"),
        ([True, False], "it holds True"),
        ([None, 2], "it holds None"),
        ([[1], [2]], r"it holds \[1\]"),
        ([2**62, 1], "ids must be below"),
    ],
)
def test_a_column_example_id_that_cannot_name_rows_is_the_users_own(ids, why):
    pairs = [{"prompt": "p", "chosen": "x", "rejected": "y", "example_id": value} for value in ids]
    with pytest.warns(UserInputWarning, match=f"f: the column example_id is left alone and rows go by .*{why}"):
        assert unpaired_rows(rows_of(*pairs), "f")["example_id"][:] == [0, 1, 2, 3]


def test_unpaired_rows_may_be_saved_and_read_again(tmp_path):
    rows = unpaired_rows(rows_of({"prompt": "p", "chosen": "x", "rejected": "y"}), "f")
    rows.select([1, 0]).to_json(tmp_path / "rows.jsonl")
    again = unpaired_rows(load_rows(tmp_path / "rows.jsonl"), "f")
    assert list(again) == [rows[1], rows[0]]


def test_sft_reads_prompt_and_completion_messages_or_text():
    assert sft_rows(rows_of({"prompt": "a", "completion": "b"}), "f")[0] == {
        "example_id": 0,
        "prompt": "a",
        "completion": "b",
    }
    talk = [{"role": "system", "content": "Be brief."}, USER, RIGHT]
    assert sft_rows(rows_of({"messages": talk}), "f")[0] == {
        "example_id": 0,
        "prompt": talk[:2],
        "completion": "Paris.",
    }
    assert sft_rows(rows_of({"text": "Once."}), "f")[0] == {"example_id": 0, "prompt": "", "completion": "Once."}


@pytest.mark.parametrize("messages", [[], [RIGHT], [USER], [RIGHT, USER]])
def test_messages_without_a_prompt_and_an_answer_are_refused(messages):
    with pytest.raises(UserError, match=r"messages holds no prompt|is not an assistant|ends with an assistant"):
        sft_rows(rows_of({"messages": [USER, RIGHT]}, {"messages": messages}), "f")


def test_sft_on_labelled_rows_warns_that_undesirable_ones_are_imitated():
    with pytest.warns(UserInputWarning, match="all 2 completions, though 1 are labelled false"):
        sft_rows(rows_of(UP, DOWN), "f")
    sft_rows(rows_of(UP, UP), "f")


def test_prompts_come_from_the_prompt_column_or_from_the_common_start():
    assert list(prompt_rows(rows_of(UP, DOWN), "f")) == [
        {"example_id": 0, "prompt": "a"},
        {"example_id": 1, "prompt": "b"},
    ]
    assert prompt_rows(rows_of({"chosen": [USER, RIGHT], "rejected": [USER, WRONG]}), "f")[0]["prompt"] == [USER]
    with pytest.raises(UserError, match="f: no column 'prompt'"):
        prompt_rows(rows_of({"question": "a"}), "f")
