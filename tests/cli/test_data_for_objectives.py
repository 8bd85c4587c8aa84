"""What an objective needs of the data is looked at before a model is read; what it cannot use is told once."""

import pytest
from command_files import read_rows, write_rows

LISTS = [{"prompt": f"p{i}", "completions": [" a b", " c", " d e f"], "scores": [5, 3, 1]} for i in range(4)]
PAIRS = [{"prompt": f"p{i}", "chosen": " a b", "rejected": " c"} for i in range(4)]


@pytest.fixture
def on(train, tmp_path):
    """`on(rows, "--objective", ...)`: a run on these rows."""

    def run(rows, *words):
        return train("--dataset_name", write_rows(tmp_path / "given.jsonl", rows), *words)

    return run


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("disco", LISTS, "--objective disco needs liked and disliked answers; --threshold NUMBER makes answers above"),
        ("tree_po", LISTS, "--objective tree_po needs weights of the steps of every answer, and there is no column"),
        ("irpo", LISTS, "--objective irpo needs the place where every item was shown, and there is no column rank"),
        ("irpo", [row | {"rank": [1, 2, 3]} for row in LISTS], "there is no column spans; add spans"),
        ("madpo", PAIRS, "needs a scorer's number for every answer, and there is no column score; add score_chosen"),
        ("rankdpo", [row | {"scores": [60, 2, 1]} for row in LISTS], "rescale the scores"),
    ],
)
def test_data_that_lack_what_an_objective_needs_are_refused_before_the_model_is_read(on, tmp_path, name, rows, told):
    code, _, err = on(rows, "--objective", name, "--model_name_or_path", tmp_path / "nowhere")
    assert code == 2
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_disco_learns_from_grades_around_a_threshold(on, tmp_path):
    code, out, err = on(LISTS, "--objective", "disco", "--threshold", 3)
    assert code == 0
    assert "4 answers lie exactly at --threshold 3" in err
    assert "4 pairs" in out


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_columns_without_use_are_told_in_one_line(on):
    rows = [row | {"score_chosen": 2.0, "score_rejected": 1.0} for row in PAIRS]
    code, _, err = on(rows, "--objective", "dpo")
    assert code == 0
    assert err.count("does not read the columns score_chosen, score_rejected: without effect") == 1
    assert err.count("\n") == 1


def test_draws_that_cannot_be_served_are_refused_before_the_model_is_read(on, tmp_path):
    flags = ("--objective", "d2_dpo", "--draw_design", "iid", "--num_draws_weight", 8)
    code, _, err = on(PAIRS, *flags, "--model_name_or_path", tmp_path / "nowhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "--num_draws_weight 8: --objective d2_dpo weighs every draw by itself" in err


def test_weights_of_kto_are_recommended_to_kto_only(train, tmp_path):
    rows = [{"prompt": f"p{i}", "completion": f" a{i}", "label": i > 1} for i in range(8)]
    flags = ("--objective", "bco", "--max_steps", 1, "--per_device_train_batch_size", 8)
    code, out, err = train("--dataset_name", write_rows(tmp_path / "t.jsonl", rows), *flags)
    assert (code, err) == (0, "")
    assert "6 desirable" in out
    assert "KTO recommends" not in out


def weighted(rows, weights):
    return [row | {"weight": weight} for row, weight in zip(rows, weights, strict=True)]


THUMBS = [{"prompt": f"p{i}", "completion": f" a{i} b", "label": i % 2 == 0} for i in range(8)]
GRADED = [{"prompt": f"p{i % 4}", "completion": f" a{i} b", "score": float(i)} for i in range(12)]


@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
@pytest.mark.parametrize(
    ("name", "rows", "flags"),
    [
        ("kto", THUMBS, ()),
        ("kto", PAIRS, ()),
        ("kto", LISTS, ("--threshold", 2)),
        ("dpo", PAIRS, ()),
        ("dpo", GRADED, ("--pairing", "best_worst")),
        ("rankdpo", GRADED, ()),
        ("rankdpo", LISTS, ()),
    ],
)
def test_the_column_weight_reaches_the_loss_from_every_form_of_data(on, tmp_path, name, rows, flags):
    """The first step is the same but for the weights: five times the loss."""
    losses = []
    for weight in (1.0, 5.0):
        given = weighted(rows, [weight] * len(rows))
        words = ("--objective", name, "--max_steps", 1, "--num_draws", 1, "--overwrite", *flags)
        assert on(given, *words).code == 0
        losses.append(read_rows(tmp_path / "out" / "metrics.jsonl")[0]["loss"])
    assert losses[1] == pytest.approx(5 * losses[0])


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_imitation_says_that_it_has_no_weights(unveil, base, tmp_path):
    rows = weighted([{"prompt": "p", "completion": f" a{i}"} for i in range(4)], [1, 2, 3, 4])
    data = write_rows(tmp_path / "sft.jsonl", rows)
    flags = ("--dataset_name", data, "--output_dir", tmp_path / "out", "--use_cpu", "--max_steps", 1)
    code, _, err = unveil("sft", "--model_name_or_path", base, *flags)
    assert code == 0
    assert err.count("the column weight has no effect here, every row counts alike") == 1
