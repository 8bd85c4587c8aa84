"""`unveil variance`: table, figure, JSON file and recommendation; refusals in one line."""

import json
from pathlib import Path

import pytest
from command_files import THUMBS, edited, write_rows


@pytest.fixture
def variance(unveil, base, thumbs, tmp_path):
    """`variance("--gradient")` -> outcome, on four answers with few replicates into `out`."""

    def run(*words: object):
        return unveil(
            "variance", "--model_name_or_path", base, "--dataset_name", thumbs, "--output_dir", tmp_path / "out",
            "--num_draws", 4, "--max_samples", 4, "--replicates", 4, "--gradient_replicates", 2, *words,
        )  # fmt: skip

    return run


def report(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "variance.json").read_text())


def test_everything_is_measured_and_written(variance, tmp_path):
    code, out, err = variance("--gradient")
    assert (code, err) == (0, "")
    found = report(tmp_path)
    names = {(row["name"], row["combiner"]) for row in found["estimators"]}
    assert {
        ("iid", "ht"),
        ("iid 2x2", "ht"),
        ("quadratic_tiling", "hajek"),
        ("coupled", "crossfit_difference"),
    } <= names
    assert found["estimators"][0]["gradient_mse_over_iid"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert set(found["split_of_one_draw"]) == {"elbo", "margin", "gradient"}
    assert len(found["strata"]["gradient_K"]) == 4
    assert found["reference"] == "a copy with 0.02 relative Gaussian noise on every weight"
    assert (tmp_path / "out" / "variance.png").read_bytes().startswith(b"\x89PNG")
    assert found["recommendation"]["text"] in " ".join(out.split())
    assert "4 answers are too few" in out
    assert "a copy with 0.02 relative Gaussian noise" in out


def test_chosen_designs_and_combiners_only(variance, base, tmp_path):
    other = edited(base, lambda tensors: [t.mul_(1.01) for t in tensors.values()], tmp_path / "other")
    flags = ("--designs", "quadratic_tiling", "--combiners", "ht", "--strata_exponents", 1.5, 2)
    code, out, _ = variance("--ref_model_name_or_path", other, *flags)
    assert code == 0
    found = report(tmp_path)
    assert [row["name"] for row in found["estimators"]] == [
        "iid",
        "iid 2x2",
        "quadratic_tiling p=1.5",
        "quadratic_tiling",
    ]
    assert found["reference"] == other
    assert "gradient" not in out
    assert "gradient_mse" not in found["estimators"][0]


def test_the_same_seed_gives_the_same_figures(variance, tmp_path):
    flags = ("--designs", "iid", "--overwrite")
    found = []
    for seed, tokens in ((1, 4096), (1, 64), (2, 4096)):
        variance(*flags, "--seed", seed, "--tokens_per_batch", tokens)
        found.append(report(tmp_path)["estimators"][1]["margin_mse_over_iid"]["value"])
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert found[0] != pytest.approx(found[2], rel=1e-3)


@pytest.mark.filterwarnings("default")
def test_a_combiner_that_a_design_cannot_serve_is_left_out_aloud(variance, tmp_path):
    _, _, err = variance("--num_draws", 2, "--designs", "mirrored")
    assert "warning: mirrored with 2 draws cannot serve crossfit_difference; left out" in err
    assert [r["combiner"] for r in report(tmp_path)["estimators"] if r["design"] == "mirrored"] == ["ht", "hajek"]


REFUSED = {
    "unknown design": (["--designs", "spiral"], "--designs spiral: unknown; choose one of"),
    "odd pairs": (["--designs", "mirrored", "--num_draws", 3], "--designs mirrored: draws come in pairs"),
    "all subsets": (["--designs", "all_subsets"], "--designs all_subsets: its forward passes are as many as"),
    "unknown combiner": (["--combiners", "mean"], "--combiners mean: unknown"),
    "no draws": (["--num_draws", 0], "--num_draws 0: at least 1"),
    "one replicate": (["--replicates", 1], "--replicates 1: at least 2"),
    "one gradient": (["--gradient_replicates", 1], "--gradient_replicates 1: at least 2"),
    "exponent": (["--strata_exponents", 0], "--strata_exponents 0.0: must be above 0"),
    "perturbation": (["--perturbation", 0], "--perturbation 0: must be above 0"),
    "tokens": (["--tokens_per_batch", 0], "--tokens_per_batch 0: at least 1"),
    "parameters": (["--gradient", "--gradient_parameters", "lips"], "--gradient_parameters lips: in no parameter's"),
    "one answer": (["--max_samples", 1], "thumbs.jsonl: intervals are over answers, and there is 1; give at least 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused_in_one_line(case, variance, tmp_path):
    flags, message = REFUSED[case]
    code, _, err = variance(*flags)
    assert code == 2
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_the_model_against_itself_is_refused(variance, base):
    code, _, err = variance("--ref_model_name_or_path", base, "--designs", "iid")
    assert code == 2
    assert "give models that differ" in err


def test_answers_of_one_token_are_refused(variance, tmp_path):
    rows = [{**row, "completion": "a"} for row in THUMBS]
    data = write_rows(tmp_path / "short.jsonl", rows)
    code, _, err = variance("--dataset_name", data, "--end_of_answer", "none")
    assert code == 2
    assert "every answer has a single token" in err


def test_a_full_folder_is_kept(variance, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, err = variance()
    assert code == 2
    assert "give --overwrite" in err
