"""`unveil compare` with several judges, what it writes, and how it goes on after an interruption."""

import json
import re

import pytest
from command_files import edited, read_rows, write_rows

JUDGES = """
from unveil.judging import Verdict

class Letters:
    symmetric = True
    def __init__(self, letter):
        self.letter, self.name = letter, f"fewer {letter}"
    def compare(self, prompts, a, b):
        more = [x.count(self.letter) - y.count(self.letter) for x, y in zip(a, b)]
        return [Verdict("A" if n < 0 else "B" if n > 0 else "tie", f"<b>{n}</b> & counting") for n in more]

class Unsteady:
    name, symmetric, calls = "unsteady", False, 0
    def compare(self, prompts, a, b):
        Unsteady.calls += 1
        said = [Verdict("A"), Verdict("B"), Verdict("tie"), Verdict("A"), Verdict("B")]
        said.append(Verdict("tie", "<script>mumble</script>", parsed=False))
        return [said[(sum(map(ord, x + y)) + Unsteady.calls * len(x)) % 6] for x, y in zip(a, b)]

class Silent:
    name, symmetric = "silent", True
    def compare(self, prompts, a, b):
        return [Verdict("tie", "no idea", parsed=False)] * len(prompts)

class Some(Silent):
    def __init__(self, left_out):
        self.name, self.left_out = f"leaves {left_out}", left_out
    def compare(self, prompts, a, b):
        return [Verdict("tie", parsed=place >= self.left_out) for place in range(len(prompts))]

class Thirds(Silent):
    def __init__(self, name):
        self.name = name
    def compare(self, prompts, a, b):
        return [Verdict(("A", "B", "tie")[place % 3]) for place in range(len(prompts))]

class Twin(Letters):
    def __init__(self):
        super().__init__("e")

e, o = Letters("e"), Letters("o")
unsteady, silent, twin, third, quarter = Unsteady, Silent, Twin, Some(4), Some(3)
third_first, third_again = Thirds("third first"), Thirds("third again")
"""


@pytest.fixture
def compare(unveil, base, thumbs, tmp_path, monkeypatch):
    (tmp_path / "panel.py").write_text(JUDGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "panel", raising=False)
    other = edited(base, lambda tensors: [t.mul_(1.5) for t in tensors.values()], tmp_path / "other")

    def run(*words):
        return unveil(
            "compare", "--model", other, "--against", base, "--dataset_name", thumbs, "--gen_length", 8,
            "--temperature", 1, "--output_dir", tmp_path / "result", *words,
        )  # fmt: skip

    return run


@pytest.fixture
def sampled(monkeypatch) -> list[int]:
    """How many answers each call of the sampler drew."""
    from unveil.cli import compare as module

    drawn, real = [], module.answer

    def counted(denoiser, tokenizer, ids_by_place, *rest):
        drawn.append(len(ids_by_place))
        return real(denoiser, tokenizer, ids_by_place, *rest)

    monkeypatch.setattr(module, "answer", counted)
    return drawn


def test_a_panel_writes_rows_statistics_figure_and_page(compare, tmp_path):
    code, out, err = compare("--judge", "panel:e", "panel:o", "panel:unsteady", "--judge_repeats", 2, "--null")
    assert (code, err) == (0, "")
    folder = tmp_path / "result"
    assert {path.name for path in folder.iterdir()} == {
        "answers.jsonl", "answers_settings.json", "compare.json", "comparisons.jsonl", "disagreements.html",
        "null_comparisons.jsonl", "repeated_comparisons.jsonl", "win_rates.png",
    }  # fmt: skip
    rows = read_rows(folder / "comparisons.jsonl")
    assert [row["judge"] for row in rows] == ["fewer e"] * 12 + ["fewer o"] * 12 + ["unsteady"] * 12
    summary = json.loads((folder / "compare.json").read_text())
    assert [judged["judge"] for judged in summary["judges"]] == ["fewer e", "fewer o", "unsteady"]
    assert summary["comparison"] == summary["judges"][0]["comparison"]
    unread = sum(row["winner"] is None for row in rows)
    assert unread == summary["judges"][2]["comparison"]["unparsed"] > 0
    assert summary["judges"][2]["comparison"]["win_rate"]["n"] == 12 - unread
    assert {"first", "flipped", "test"} <= set(summary["judges"][2]["comparison"]["position"])
    assert summary["judges"][0]["self_consistency"]["rate"] == 1.0
    again = [row["winner"] for row in read_rows(folder / "repeated_comparisons.jsonl")[24:]]
    both = [(row["winner"], other) for row, other in zip(rows[24:], again) if row["winner"] and other]
    consistency = summary["judges"][2]["self_consistency"]
    assert consistency["n"] == len(both)
    assert consistency["rate"] == pytest.approx(sum(one == other for one, other in both) / len(both))
    plain = [judged["comparison"]["sign"]["p_value"] for judged in summary["judges"]]
    assert all(judged["p_value_holm"] >= p for judged, p in zip(summary["judges"], plain))
    assert len(summary["agreement"]["kappa_matrix"]) == 3
    assert summary["panel"]["judge"] == "panel (majority)"
    assert summary["agreement"]["alpha"]["n"] == 12
    assert summary["results"]["minimum_detectable_difference"] > 0.15
    assert (folder / "win_rates.png").read_bytes().startswith(b"\x89PNG")
    assert "fewer e and fewer o: kappa" in out
    assert "all judges: Krippendorff's alpha" in out
    assert "12 prompts show a win rate" in out
    assert f"{unread} of 12 verdicts could not be read and do not count" in out


def test_the_page_can_be_read_offline_and_escapes_everything(compare, tmp_path):
    evil = [{"prompt": f"<script>alert({i})</script> say {i}:"} for i in range(6)]
    data = write_rows(tmp_path / "evil.jsonl", evil)
    assert compare("--judge", "panel:e", "panel:o", "panel:unsteady", "--dataset_name", data).code == 0
    html = (tmp_path / "result" / "disagreements.html").read_text()
    assert not re.search(r"https?:|<link|<script|@import|url\(|srcset|<iframe", html)
    assert html.count("&lt;script&gt;alert(") == 6
    assert "&lt;b&gt;" in html
    assert "&lt;script&gt;mumble" in html
    assert "<b>0</b>" not in html


def test_the_page_shows_the_most_divided_pairs_first(compare, tmp_path):
    compare("--judge", "panel:e", "panel:o")
    rows = read_rows(tmp_path / "result" / "comparisons.jsonl")
    value = {"A": 1.0, "tie": 0.5, "B": 0.0}
    apart = [abs(value[one["winner"]] - value[other["winner"]]) for one, other in zip(rows[:12], rows[12:])]
    wanted = sorted((place for place in range(12) if apart[place]), key=lambda place: -apart[place])
    html = (tmp_path / "result" / "disagreements.html").read_text()
    shown = [int(place) for place in re.findall(r'class="mark">pair (\d+)', html)]
    assert shown[: len(wanted)] == wanted
    assert len(wanted) > 0


def test_answers_are_used_again_after_an_interruption(compare, sampled, tmp_path):
    """Cut in the middle of a line, as by a kill; more samples and another judge are welcome."""
    compare("--judge", "panel:e")
    assert sum(sampled) == 24
    before = read_rows(tmp_path / "result" / "comparisons.jsonl")
    file = tmp_path / "result" / "answers.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:20]) + lines[20][:9])
    sampled.clear()
    code, out, err = compare("--judge", "panel:o", "panel:e", "--resume")
    assert (code, err) == (0, "")
    assert "20 answers were in" in out
    assert sum(sampled) == 4
    assert len(read_rows(file)) == 24
    after = read_rows(tmp_path / "result" / "comparisons.jsonl")[12:]
    assert after == before, "the same answers as without the interruption"
    sampled.clear()
    assert compare("--judge", "panel:e", "--resume", "--num_samples", 2, "--null").code == 0
    assert sum(sampled) == 24 + 24, "the second seed of both, and two seeds of B for the null"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature", 0.5], "made with other settings: --temperature (was 1.0, is 0.5)"),
        (["--chat"], "made with other settings: --chat (was False, is True)"),
        (["--seed", 3], "made with other settings: --seed (was 0, is 3)"),
        (["--gen_length", 16], "made with other settings: --gen_length (was 8, is 16)"),
        (["--max_prompt_length", 99], "made with other settings: --max_prompt_length (was None, is 99)"),
        (["--remasking", "random"], "--remasking (was low_confidence, is random); give the same ones, another --out"),
        (["--against", "other"], "made with other settings: weights of model B"),
        (["--dtype", "bfloat16"], "weights of model A, weights of model B (--dtype was None, is bfloat16); give the"),
        (["--overwrite"], "--resume and --overwrite: one keeps what the other replaces"),
    ],
)
def test_answers_of_other_settings_are_refused(compare, sampled, words, message):
    compare("--judge", "panel:e", "--max_samples", 2)
    sampled.clear()
    code, _, err = compare("--judge", "panel:e", "--max_samples", 2, "--resume", *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not sampled


def test_another_model_is_named_with_the_one_before_it(compare, base, tmp_path):
    compare("--judge", "panel:e", "--max_samples", 2)
    before = (tmp_path / "result" / "compare.json").read_bytes()
    for _ in range(2):  # a refusal leaves everything as it was
        code, _, err = compare("--judge", "panel:e", "--max_samples", 2, "--resume", "--against", "other")
        assert code == 2
        assert f"weights of model B (--against was {base}, is other); give the same ones, another --output_dir" in err
    assert (tmp_path / "result" / "compare.json").read_bytes() == before


def test_answers_to_other_prompts_and_broken_files_are_refused(compare, tmp_path):
    compare("--judge", "panel:e", "--max_samples", 3)
    changed = write_rows(tmp_path / "changed.jsonl", [{"prompt": "say 0:"}, {"prompt": "sing 1:"}])
    _, _, err = compare("--judge", "panel:e", "--resume", "--dataset_name", changed)
    assert "answers.jsonl: row 1 had another prompt when it was answered" in err
    assert f"is {changed}); give the same data and template, another --output_dir, or --overwrite" in err
    file = tmp_path / "result" / "answers.jsonl"
    file.write_text("{}\n" + file.read_text())
    assert "answers.jsonl, line 1: is no answer" in compare("--judge", "panel:e", "--resume").err
    _, _, err = compare("--judge", "panel:e")
    assert "holds answers already; give --resume to use them again, --overwrite to replace them" in err


def test_a_judge_without_a_readable_verdict_has_no_win_rate_and_the_others_keep_theirs(unveil, compare, tmp_path):
    code, out, err = compare("--judge", "panel:silent", "panel:e", "--max_samples", 2)
    folder = tmp_path / "result"
    assert (code, err) == (0, "")
    assert "silent: win rate not known: none of 2 verdicts could be read" in out
    assert "fewer e: win rate 0." in out
    assert "nan" not in out.lower()
    assert [row["winner"] for row in read_rows(folder / "comparisons.jsonl")[:2]] == [None, None]
    text = (folder / "compare.json").read_text()
    assert "NaN" not in text
    summary = json.loads(text)
    assert (summary["results"]["adjusted_win_rate"], summary["results"]["interval"]) == (None, None)
    silent, fewer = summary["judges"]
    assert (silent["comparison"]["win_rate"], silent["p_value_holm"]) == (None, None)
    assert (silent["comparison"]["asked"], silent["comparison"]["unparsed"]) == (2, 2)
    assert 0 <= fewer["comparison"]["win_rate"]["rate"] <= 1
    assert fewer["p_value_holm"] == fewer["comparison"]["sign"]["p_value"], "one test was made"
    assert "none of 2 could be read" in (folder / "disagreements.html").read_text()
    code, out, err = unveil("report", folder, "--output_file", tmp_path / "report.html")
    assert (code, err) == (0, "")
    assert "no win rate by silent (none of 2 verdicts could be read)" in out
    assert "fewer e" in out


def test_if_no_judge_has_a_readable_verdict_it_is_an_error_that_keeps_the_files(compare, tmp_path):
    code, out, err = compare("--judge", "panel:silent", "--max_samples", 2, "--null")
    assert code == 2
    assert "judge silent: no verdict could be read from any of its 2 replies, the first of which is 'no idea'" in err
    assert "correct the template or take another judge" in err
    assert "win rate not known: none of 2 verdicts could be read" in out
    folder = tmp_path / "result"
    assert [row["winner"] for row in read_rows(folder / "comparisons.jsonl")] == [None, None]
    summary = json.loads((folder / "compare.json").read_text())
    assert (summary["results"]["adjusted_win_rate"], summary["null"]["win_rate"]) == (None, None)
    assert (folder / "disagreements.html").is_file()
    assert not (folder / "win_rates.png").exists()


@pytest.mark.filterwarnings("always::unveil.errors.UserInputWarning")
def test_a_win_rate_of_some_verdicts_only_is_warned_of(compare):
    code, _, err = compare("--judge", "panel:third", "panel:quarter")
    assert code == 0
    assert err.count("\n") == 1, "a quarter unread is let pass"
    assert "judge leaves 4: 4 of 12 verdicts could not be read; its win rate speaks of the others only" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["panel:e", "panel:e"], "--judge panel:e: is named more than once"),
        (["panel:e", "panel:twin"], "--judge panel:twin: calls itself 'fewer e' as --judge panel:e does"),
        (["panel:e", "--judge_repeats", "0"], "--judge_repeats 0: at least 1 is needed"),
    ],
)
def test_a_panel_that_makes_no_sense_is_refused_before_any_work(compare, sampled, words, message):
    code, _, err = compare("--judge", *words)
    assert code == 2
    assert message in err
    assert not sampled


def test_full_agreement_of_few_pairs_has_a_wide_interval(compare, tmp_path):
    out = compare("--judge", "panel:third_first", "panel:third_again").out
    assert re.search(r"third first and third again: kappa 1.000 \(-?0.\d+ to 1.000\), equal on 100.0% of 12", out)
    alpha = json.loads((tmp_path / "result" / "compare.json").read_text())["agreement"]["alpha"]
    assert (alpha["value"], alpha["high"]) == (1.0, 1.0)
    assert alpha["low"] < 0.5, "twelve pairs tell little"
