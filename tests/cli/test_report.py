"""`unveil report`: several runs on one page, with what is missing said, and bad folders refused by name."""

import json
import re

import pytest

OBJECTIVE = "KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0, baseline='batch', shape='unpaired')"


def metrics(scale: float) -> str:
    rows = [
        {
            "step": step, "loss": 0.5, "rewards/chosen": -0.01 * scale * step, "rewards/rejected": -0.03 * scale * step,
            "rewards/margins": 0.02 * scale * step, "logps/chosen": -200 + step, "logps/rejected": -210 - step,
            "num_tokens": 1000.0 * step, "num_forwards": 24.0 * step,
        }
        for step in range(1, 21)
    ]  # fmt: skip
    rows.append({"step": 20, "eval_loss": 0.4, "eval_rewards/chosen": -0.2 * scale, "eval_rewards/rejected": -0.5})
    rows.append({"step": 20, "train_runtime": 12.5, "total_flos": 1.5e9, "num_forwards": 481.0})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def trained(tmp_path):
    def make(name: str, scale: float = 1.0):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        record = {"arguments": {"beta": 0.1, "seed": 0}, "objective": OBJECTIVE, "reference": "base"}
        (folder / "run.json").write_text(json.dumps(record | {"results": {"seconds": 12.5}}))
        (folder / "metrics.jsonl").write_text(metrics(scale))
        return folder

    return make


@pytest.fixture
def compared(tmp_path):
    """A folder as `unveil compare` writes it, from the very code that writes it."""
    from unveil.cli.compare_output import Compared, write_results
    from unveil.generation import GenerationConfig
    from unveil.judging import Verdict, judge_answers

    class Judge:
        symmetric = True

        def __init__(self, name, winners):
            self.name, self.winners = name, winners

        def compare(self, prompts, answers_a, answers_b):
            return [Verdict(winner) for winner in self.winners]

    def make(name: str, model: str, winners: str = "AAAAABBAAA"):
        folder = tmp_path / name
        found = Compared({"A": model, "B": "base"}, "prompts.jsonl", [GenerationConfig()], None, [{}] * 10)
        texts = [f"prompt {i}" for i in range(10)], ["two words"] * 10, ["one"] * 10
        found.judgements = [judge_answers(Judge(n, w), *texts) for n, w in (("jo", winners), ("ann", "ABABABABAB"))]
        found.nulls = [judge_answers(Judge(n, "ABABABABAB"), *texts) for n in ("jo", "ann")]
        write_results(folder, found)
        return folder

    return make


def test_runs_stand_side_by_side_in_one_file(unveil, trained, compared, tmp_path):
    kto, vrpo = trained("kto"), trained("vrpo", 2.0)
    page, figures = tmp_path / "report.html", tmp_path / "figures"
    comparison = compared("against", str(kto))
    code, out, err = unveil("report", kto, vrpo, comparison, "--output_file", page, "--figures_dir", figures)
    assert (code, err) == (0, "")
    html = page.read_text()
    assert not re.search(r"https?:|<link|<script|@import|url\(|srcset|<iframe", html)
    assert {path.stem for path in figures.iterdir()} == {"win_rates", "rewards", "margins", "displacement"}
    assert html.count("data:image/png;base64,") == 4
    assert "2 runs: kto, vrpo" in html, "the comparison belongs to its model"
    assert "0.800 [" in html
    assert "jo" in html
    assert "ann" in html
    assert "both sank; the gap opened" in html
    assert "−2.00 / −5.00" in html, "held-out rewards over beta, nats"
    assert "20,000" in html
    assert re.search(r"<td[^>]*>481</td>", html), "forward passes, as the last log counts them"
    assert "vrpo: no win rate" in out
    assert "vrpo:</b> no win rate" in html
    assert "kto: no" not in out


def test_p_values_are_corrected_for_the_number_of_rows(unveil, compared, tmp_path):
    """8 to 2: p = 0.109; four tests."""
    one, other = compared("one", "x"), compared("other", "y")
    out = unveil("report", one, other, "--output_file", tmp_path / "r.html").out
    assert "0.11 → 0.44" in out
    assert "one: no curves (no metrics.jsonl)" in out


def test_a_comparison_inside_a_run_is_found(unveil, trained, compared, tmp_path):
    run = trained("kto")
    compared("runs/kto/compared", "elsewhere")
    out = unveil("report", run, "--output_file", tmp_path / "r.html").out
    assert "0.800" in out
    assert "no win rate" not in out


def test_the_demo_is_a_run_too(unveil, trained, tmp_path):
    demo = tmp_path / "demo"
    demo.mkdir()
    results = {
        "adjusted_win_rate": 0.6, "interval": [0.5, 0.7], "null_win_rate": 0.51, "null_interval": [0.4, 0.6],
        "wins": 60, "ties": 0, "losses": 40, "reward_up": -0.07, "reward_down": -1.99, "seconds": 172.0,
        "mean_length": {"base": 13.2, "aligned": 12.1},
    }  # fmt: skip
    (demo / "run.json").write_text(json.dumps({"settings": {"beta": 0.1}, "results": results}))
    (demo / "metrics.jsonl").write_text(metrics(1.0))
    out = unveil("report", demo, trained("kto"), "--output_file", tmp_path / "r.html").out
    assert "0.600 [0.500, 0.700]" in out
    assert "−0.07 / −1.99" in out
    assert "12.1 / 13.2 tokens" in out
    assert "demo: no" not in out


def test_rewards_that_are_no_margins_are_not_called_so(unveil, trained, tmp_path):
    run = trained("simpo")
    record = json.loads((run / "run.json").read_text()) | {"objective": "Pairwise(reward=Scaled(beta=2.0))"}
    (run / "run.json").write_text(json.dumps(record))
    out = unveil("report", run, "--output_file", tmp_path / "r.html", "--figures_dir", tmp_path / "f").out
    assert "simpo: no margins against a reference" in out
    assert not (tmp_path / "f" / "displacement.png").exists()


def test_a_line_cut_by_a_kill_is_left_out_and_said(unveil, trained, tmp_path):
    run = trained("kto")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    code, out, _ = unveil("report", run, "--output_file", tmp_path / "r.html")
    assert code == 0
    assert "the last line of metrics.jsonl was cut off and is left out" in out


def test_two_rates_by_one_judge_are_told_apart(unveil, trained, compared, tmp_path):
    run = trained("kto")
    folders = [compared(name, str(run)) for name in ("seed-1", "seed-2")]
    assert unveil("report", run, *folders, "--output_file", tmp_path / "r.html").code == 0
    html = (tmp_path / "r.html").read_text()
    assert "kto, seed-1" in html
    assert "kto, seed-2" in html


def test_runs_of_one_name_are_told_apart(unveil, trained, tmp_path):
    one, other = trained("a/kto"), trained("b/kto")
    unveil("report", "--runs", one, other, "--output_file", tmp_path / "r.html")
    assert "2 runs: a/kto, b/kto" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", '{"step": 1}\nnonsense\n{"step": 2}\n', "metrics.jsonl, line 2: is no log of a run"),
        ("metrics.jsonl", '{"loss": 1}\n', "metrics.jsonl, line 1: is no log of a run (no object with a step)"),
        ("metrics.jsonl", '{"step": 1, "loss": "x"}\n', "line 1: is no log of a run ('loss' is 'x', not a number)"),
        ("metrics.jsonl", "[" * 99_999 + "\n{}\n", "metrics.jsonl, line 1: is no log of a run"),
        ("run.json", '{"arguments": 5}', "run.json: arguments is no JSON object"),
        ("run.json", '{"results": [1]}', "run.json: results is no JSON object"),
        ("run.json", '{"a": ' + "[" * 99_999 + "]" * 99_999 + "}", "run.json: cannot be read as JSON"),
        ("run.json", "{", "run.json: cannot be read as JSON"),
        ("run.json", "[]", "run.json: holds no JSON object"),
        ("compare.json", '{"judge": "x"}', "compare.json: is not as unveil compare writes it (KeyError('comparison'))"),
        ("run.json", '{"results": {"adjusted_win_rate": 1}}', "run.json: its results are not those of a demo"),
    ],
)
def test_a_broken_file_is_named(unveil, trained, tmp_path, name, text, message):
    run = trained("kto")
    (run / name).write_text(text)
    code, _, err = unveil("report", run, "--output_file", tmp_path / "r.html")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_metric_that_was_not_finite_is_left_out_of_its_curve(unveil, trained, tmp_path):
    run = trained("kto")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5, "rewards/chosen": null}\n{"step": 2, "loss": 0.4}\n')
    assert unveil("report", run, "--output_file", tmp_path / "r.html").code == 0


def test_what_is_no_run_is_refused(unveil, trained, tmp_path):
    run, page = trained("kto"), tmp_path / "r.html"
    (tmp_path / "empty").mkdir()
    for words, message in (
        ([tmp_path / "empty"], "empty: is no run folder, it holds neither run.json nor metrics.jsonl nor compare.json"),
        ([tmp_path / "nowhere"], "nowhere: is no folder"),
        ([run, run], "kto: is given twice"),
        ([], "--runs: is missing; give run folders"),
    ):
        code, _, err = unveil("report", *words, "--output_file", page)
        assert code == 2
        assert message in err
    page.write_text("")
    assert "is there already; give --overwrite" in unveil("report", run, "--output_file", page).err
