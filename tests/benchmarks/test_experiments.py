"""The experiments run from end to end, go on from what is on disk, and print what they write."""

import json
from pathlib import Path

import pytest

from benchmarks import kto_mix, length_bias, negative_surrogate, noisy_labels, vrpo_variance
from benchmarks.pair_training import Settings
from unveil.objectives import RECIPES

PNG = b"\x89PNG"


def last_line(text):
    return json.loads(text.splitlines()[-1])


def test_runs_that_are_dpo_are_dpo_s():
    jobs = [noisy_labels.job_of(name, 0.0, 3, "report", None, Settings()) for name in ("dpo", "cdpo", "rdpo")]
    assert jobs[0] == jobs[1] == jobs[2]
    assert noisy_labels.job_of("cdpo", 0.1, 3, "report", None, Settings()) not in jobs
    assert noisy_labels.job_of("adpo", 0.0, 3, "report", None, Settings()) not in jobs


def test_the_objectives_exist_and_take_the_flip_rate():
    assert set(noisy_labels.OBJECTIVES) | set(length_bias.OBJECTIVES) | set(kto_mix.OBJECTIVES) <= set(RECIPES)
    assert all("eps" in RECIPES[name].defaults for name in noisy_labels.TOLD_THE_RATE)


@pytest.mark.parametrize("rates", [["0.5"], ["-0.1"], ["0", "0.7"]])
def test_a_flip_rate_that_is_none_is_refused(rates):
    with pytest.raises(SystemExit, match="2"):
        noisy_labels.arguments(["--rates", *rates])


@pytest.mark.slow
def test_noisy_labels(tmp_path, capsys, monkeypatch):
    flags = ["--quick", "--output_dir", str(tmp_path), "--objectives", "dpo", "cdpo", "adpo", "kto"]
    assert noisy_labels.main(flags) == 0
    printed = last_line(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    accuracy = {(row["objective"], row["flipped"]): row["value"] for row in printed["accuracy"]}
    assert len(accuracy) == 8
    assert accuracy["dpo", 0.0] == accuracy["cdpo", 0.0]
    assert all(row["low"] <= row["value"] <= row["high"] for row in printed["accuracy"])
    assert (tmp_path / noisy_labels.FIGURE).read_bytes().startswith(PNG)
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 7
    monkeypatch.setattr(noisy_labels, "work", None)  # everything is on disk
    assert noisy_labels.main(flags) == 0
    assert last_line(capsys.readouterr().out)["accuracy"] == printed["accuracy"]


@pytest.mark.slow
def test_length_bias(tmp_path, capsys):
    assert length_bias.main(["--quick", "--output_dir", str(tmp_path), "--objectives", "dpo", "simpo"]) == 0
    printed = last_line(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    assert printed["pairs"]["chosen_longer"] == pytest.approx(0.8, abs=0.01)
    gap = printed["tokens"]["simpo"]["value"] - printed["tokens"]["dpo"]["value"]
    assert printed["minus_dpo"]["simpo"]["value"] == pytest.approx(gap)
    by_seed = {name: mean for name, (mean,) in printed["tokens_by_seed"].items()}
    assert by_seed == pytest.approx({name: e["value"] for name, e in printed["tokens"].items()})
    assert (tmp_path / length_bias.FIGURE).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_negative_surrogate(tmp_path, capsys):
    assert negative_surrogate.main(["--quick", "--output_dir", str(tmp_path)]) == 0
    printed = last_line(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    elbo, mix = printed["runs"]
    assert elbo["chosen_minus_elbo"]["value"] == 0
    assert mix["chosen_minus_elbo"]["value"] == pytest.approx(mix["chosen"]["value"] - elbo["chosen"]["value"])
    assert mix["chosen_minus_elbo"]["value"] != 0
    assert (tmp_path / negative_surrogate.FIGURE).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_vrpo_variance(tmp_path, capsys):
    assert vrpo_variance.main(["--quick", "--output_dir", str(tmp_path), "--pairs", "3"]) == 0
    printed = last_line(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    assert len(printed["variance"]) == 7
    holding = [check for check in printed["checks"] if check["published"] and check["verdict"] == "holds"]
    assert len(holding) == printed["published_orderings_that_hold"]
    unshared, shared = (printed["variance"][f"4 x 1, {name}"]["score"]["value"] for name in ("not shared", "shared"))
    assert unshared > 10 * shared


@pytest.mark.slow
def test_kto_mix_compares_objectives_on_the_same_pairs(tmp_path, capsys):
    for name in ("chosen", "rejected"):
        rows = [
            {
                "prompt": [{"role": "user", "content": f"what is {i}?"}],
                "completion": [{"role": "assistant", "content": f"{i} is {name if i else 'said twice'}"}],
            }
            for i in range(12)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = Path(__file__).parents[2] / "src/unveil/demo/assets/base"
    flags = ["--data", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--base", str(base), "--quick"]
    assert kto_mix.main([*flags, "--train_pairs", "8", "--objective", "vrpo", "kto", "--bag_of_words"]) == 0
    printed = last_line(capsys.readouterr().out)
    assert [run["objective"] for run in printed["runs"]] == ["vrpo", "kto", "bag of words"]
    assert set(printed["accuracy"]) == {"vrpo", "kto", "bag of words"}
    assert printed["accuracy"]["bag of words"] == 1  # one word tells the halves apart
    kept = sum(
        len((tmp_path / "out/seed-0" / name).read_text().splitlines()) for name in ("train.jsonl", "heldout.jsonl")
    )
    assert kept == 11
