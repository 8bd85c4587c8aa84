"""`unveil likelihood`: every kind of rows, with standard errors, and margins on shared draws."""

import math
import statistics

import pytest
from command_files import THUMBS, edited, read_rows, write_rows

from unveil.draws import plan
from unveil.likelihood import Response, score
from unveil.models import Denoiser, load_denoiser_model, load_tokenizer


@pytest.fixture
def likelihood(unveil, base, tmp_path):
    """`likelihood(data, ...)` -> (outcome, rows of the file)."""

    def run(data, *words):
        file = tmp_path / "elbo.jsonl"
        words = ("--dataset_name", data, "--output_file", file, "--overwrite", *words)
        return unveil("likelihood", "--model_name_or_path", base, *words), read_rows(file)

    return run


def test_values_are_those_of_the_scorer(likelihood, base, thumbs):
    _, rows = likelihood(thumbs, "--num_draws", 8, "--seed", 3)
    denoiser, tokenizer = Denoiser(load_denoiser_model(base)), load_tokenizer(base)
    for row, given in zip(rows, THUMBS, strict=True):
        prompt, answer = (
            tokenizer(given[key], add_special_tokens=False)["input_ids"] for key in ("prompt", "completion")
        )
        response = Response(row["example_id"], prompt, [*answer, 0])
        expected = score(denoiser, [response], [plan(3, row["example_id"], -1, response.length, 8)])
        assert row["tokens"] == response.length
        assert row["elbo"] == pytest.approx(float(expected.values[0]), rel=1e-5)
        assert row["standard_error"] == pytest.approx(float(expected.standard_error[0]), rel=1e-3)
        assert row["elbo_per_token"] == pytest.approx(row["elbo"] / row["tokens"])
        assert (row["prompt"], row["completion"], row["label"]) == (
            given["prompt"],
            given["completion"],
            given["label"],
        )


def test_the_mean_is_told_with_its_standard_error_over_answers(likelihood, thumbs):
    (code, out, err), rows = likelihood(thumbs)
    assert (code, err) == (0, "")
    per_token = [row["elbo_per_token"] for row in rows]
    error = statistics.stdev(per_token) / math.sqrt(len(per_token))
    assert f"mean ELBO per token {statistics.fmean(per_token):.4f} +- {error:.4f} nats over 12 answers" in out


def test_without_a_file_answers_are_printed(unveil, base, thumbs):
    _, out, _ = unveil("likelihood", "--model_name_or_path", base, "--dataset_name", thumbs, "--num_draws", 2)
    assert "ELBO (nats)" in out
    assert "and more" in out
    assert out.count("+-") == 14  # twelve answers, the mean and what it is over


def test_pairs_and_plain_rows_are_read_too(likelihood, pairs, tmp_path):
    _, rows = likelihood(pairs)
    assert [(row["example_id"], row["label"]) for row in rows] == [(i, i % 2 == 0) for i in range(8)]
    plain = write_rows(
        tmp_path / "plain.jsonl", [{"prompt": "say", "completion": " it"}, {"prompt": "a", "completion": " b"}]
    )
    _, rows = likelihood(plain)
    assert "label" not in rows[0]
    _, rows = likelihood(write_rows(tmp_path / "text.jsonl", [{"text": "once upon a time"}]))
    assert rows[0]["tokens"] == 17


def test_margins_share_draws_and_so_are_sharper_than_their_parts(likelihood, base, pairs, tmp_path):
    other = edited(base, lambda tensors: [t.mul_(1.01) for t in tensors.values()], tmp_path / "other")
    (_, out, _), rows = likelihood(pairs, "--ref_model_name_or_path", other)
    for row in rows:
        assert row["margin"] == pytest.approx(row["elbo"] - row["reference_elbo"])
        assert 0 < row["margin_standard_error"] < 0.5 * row["standard_error"]
    assert "mean margin of thumbs up" in out
    assert "of the pairs rightly" in out
    (_, out, _), rows = likelihood(pairs, "--ref_model_name_or_path", base)
    assert all(row["margin"] == row["margin_standard_error"] == 0 for row in rows)
    assert "margins rank 50.0% of the pairs rightly" in out


def test_one_draw_says_nothing_of_its_error(likelihood, thumbs):
    (code, *_), rows = likelihood(thumbs, "--num_draws", 1, "--draw_design", "iid")
    assert code == 0
    assert rows[0]["standard_error"] is None


def test_a_single_answer_has_no_spread(likelihood, thumbs):
    (_, out, _), _ = likelihood(thumbs, "--max_samples", 1)
    assert "+- not known nats over 1 answers" in out
