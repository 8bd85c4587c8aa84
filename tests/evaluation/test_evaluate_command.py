"""`unveil evaluate`: tasks from local files, both kinds of errors, runs that go on, and nothing that order changes."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

pytest.importorskip("lm_eval")

from evaluation_files import QUESTIONS, STORIES
from lm_eval.tasks import TaskManager

import unveil
from unveil.cli.evaluate import fingerprints
from unveil.evaluation import Target, score_targets
from unveil.evaluation.likelihoods import greedy_matches
from unveil.evaluation.settings import settings_of
from unveil.models import Denoiser, load_denoiser_model, load_tokenizer


def metric(results, task, name):
    [row] = [row for row in results["tasks"][task]["metrics"] if row["metric"] == name]
    return row


def requests(tmp_path, out="out"):
    rows = [json.loads(line) for line in (tmp_path / out / "requests.jsonl").read_text().splitlines()]
    return {row.pop("key"): row for row in rows}


@pytest.fixture
def loaded(base):
    return Denoiser(load_denoiser_model(base)), load_tokenizer(base)


def target(tokenizer, context, continuation):
    return Target(*(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (context, continuation)))


def test_choices_are_decided_by_the_elbo(evaluate, results, loaded):
    code, out, _ = evaluate("choose", "--num_draws", 12)  # with 8, the errors of the shortest options are not known
    assert code == 0
    denoiser, tokenizer = loaded
    settings = settings_of({"pretrained": "x", "num_draws": 12})
    right = normalised = 0
    for row in QUESTIONS:
        values = [
            score_targets(denoiser, [target(tokenizer, row["question"], option)], settings)[0].value
            for option in row["options"]
        ]
        right += values.index(max(values)) == row["answer"]
        by_length = [value / len(option) for value, option in zip(values, row["options"])]
        normalised += by_length.index(max(by_length)) == row["answer"]
    found = results()
    assert metric(found, "choose", "acc")["value"] == pytest.approx(right / len(QUESTIONS))
    assert metric(found, "choose", "acc_norm")["value"] == pytest.approx(normalised / len(QUESTIONS))
    assert metric(found, "choose", "acc")["standard_error"] > 0
    draws = found["tasks"]["choose"]["draws"]
    assert draws["acc"]["decisions"] == len(QUESTIONS)
    assert 0 <= draws["acc"]["within_error"] <= 1
    assert 0 < draws["acc"]["standard_error"] < 0.5
    assert not draws["acc"]["exact"]
    assert found["tasks"]["choose"]["elbo"]["requests"] == 12
    assert "+- draws" in out
    assert "undecided: questions whose first two options" in out


def test_single_tokens_have_no_error_over_draws(evaluate, results):
    evaluate("letters")
    assert results()["tasks"]["letters"]["draws"]["acc"] == {
        "decisions": 6, "within_error": 0.0, "standard_error": 0.0, "exact": True,
    }  # fmt: skip
    assert results()["tasks"]["letters"]["elbo"]["forwards"] == 6  # one per question, for both options


def test_loglikelihood_and_rolling_and_greedy(evaluate, results, loaded):
    evaluate("continue,texts")
    denoiser, tokenizer = loaded
    settings = settings_of({"pretrained": "x", "num_draws": 8})
    targets = [target(tokenizer, row["story"], row["end"]) for row in STORIES]
    values = [estimate.value for estimate in score_targets(denoiser, targets, settings)]
    found = results()
    assert found["tasks"]["continue"]["elbo"]["mean"] == pytest.approx(sum(values) / len(values))
    assert found["tasks"]["continue"]["elbo"]["mean_standard_error"] > 0
    greedy = greedy_matches(denoiser, targets, settings)
    assert metric(found, "continue", "acc")["value"] == sum(greedy) / len(greedy)
    assert metric(found, "texts", "word_perplexity")["value"] > 1
    assert found["tasks"]["texts"]["elbo"]["requests"] == 3


def test_resumed_limited_and_reordered_runs_ask_and_answer_the_same(evaluate, results, tmp_path):
    """The whole run; the same cut off in the middle of a line; a limit first; tasks in another order."""
    assert evaluate("choose,write").code == 0
    whole, answers = results(), requests(tmp_path)

    lines = (tmp_path / "out" / "requests.jsonl").read_text().splitlines()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "requests.jsonl").write_text("\n".join(lines[:5]) + "\n" + lines[5][:30])
    assert evaluate("choose,write", out="cut").code == 0
    assert results("cut")["tasks"] == whole["tasks"]
    assert results("cut")["requests"] == {"answered_before": 5, "computed": len(lines) - 5}
    assert requests(tmp_path, "cut") == answers

    assert evaluate("choose,write", "--limit", 2, out="some").code == 0
    some = requests(tmp_path, "some")
    assert 0 < len(some) < len(answers)
    assert some.items() <= answers.items()

    assert evaluate("write,choose", "--overwrite").code == 0
    assert results()["tasks"] == whole["tasks"]
    assert results()["requests"]["computed"] == 0


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_other_settings_or_weights_are_not_served_from_what_was_computed_before(evaluate, tiny_llada, base, results):
    evaluate("choose")
    computed = results()["requests"]["computed"]
    assert evaluate("choose", "--overwrite", "--seed", 3).code == 0
    assert results()["requests"]["computed"] == computed
    tiny_llada(seed=5).save_pretrained(base)
    _, _, err = evaluate("choose", "--overwrite")
    assert f"{2 * computed} requests were answered by another model" in err
    assert results()["requests"] == {"answered_before": 0, "computed": computed}


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_another_estimator_device_or_attention_is_not_served_from_what_was_computed_before(
    evaluate, results, loaded, monkeypatch
):
    evaluate("choose")
    computed = results()["requests"]["computed"]
    monkeypatch.setattr("unveil.likelihood.version.ESTIMATOR_VERSION", 99)
    _, _, err = evaluate("choose", "--overwrite")
    assert f"{computed} requests were answered by another model, precision, device, attention or version of" in err
    assert results()["requests"] == {"answered_before": 0, "computed": computed}
    denoiser, tokenizer = loaded
    here = fingerprints(denoiser, tokenizer)
    elsewhere = SimpleNamespace(**vars(denoiser) | {"device": torch.device("cuda")})
    assert fingerprints(elsewhere, tokenizer) == here | {"device": "cuda"}
    denoiser.model.config._attn_implementation = "varlen"
    assert fingerprints(denoiser, tokenizer) == here | {"attention": "varlen"}


def test_an_error_that_draws_do_not_tell_is_said_to_be_not_known(evaluate, results):
    code, out, _ = evaluate("choose", "--num_draws", 2)
    assert code == 0
    assert results()["tasks"]["choose"]["draws"]["acc"]["within_error"] is None
    assert "not known" in out


def test_answers_stop_at_the_task_s_strings(evaluate, tmp_path):
    args = ("--model_args", "temperature=1,gen_length=24")
    assert evaluate("write", *args).code == 0
    plain = [row["text"] for row in requests(tmp_path).values()]
    assert all("\n" not in text for text in plain)
    assert max(map(len, plain)) > 3
    task = tmp_path / "tasks" / "write.yaml"
    stop = next(text for text in plain if len(text) > 2)[1]
    declared = yaml.safe_load(task.read_text())
    declared["generation_kwargs"]["until"] = [stop]
    task.write_text(yaml.safe_dump(declared))
    assert evaluate("write", *args, out="cut").code == 0
    shorter = [row["text"] for row in requests(tmp_path, "cut").values()]
    assert all(stop not in text for text in shorter)
    assert sum(map(len, shorter)) < sum(map(len, plain))


def test_chat_template_system_text_and_shots_reach_the_prompt(evaluate, tmp_path):
    flags = (
        "--log_samples",
        "--limit",
        1,
        "--apply_chat_template",
        "--num_fewshot",
        1,
        "--system_instruction",
        "Be brief.",
    )
    assert evaluate("write", *flags).code == 0
    [sample] = [json.loads(line) for line in (tmp_path / "out" / "samples_write.jsonl").read_text().splitlines()]
    prompt = sample["arguments"][0][0]
    assert prompt.startswith("<|begin|>system\nBe brief.<|eot|>user\nstory number")
    assert prompt.count("user\nstory number") == 2
    assert "<|eot|>assistant\n and ends" in prompt
    assert prompt.endswith("begins<|eot|>assistant\n")
    assert evaluate("write", *flags, "--fewshot_as_multiturn", "false", out="flat").code == 0
    [sample] = [json.loads(line) for line in (tmp_path / "flat" / "samples_write.jsonl").read_text().splitlines()]
    assert sample["arguments"][0][0].count("user\n") == 1


def test_adapters_are_laid_over_the_base(evaluate, base, results, tmp_path):
    from peft import LoraConfig, get_peft_model

    from unveil.models import LORA_TARGETS

    model = get_peft_model(load_denoiser_model(base), LoraConfig(r=4, target_modules=LORA_TARGETS))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.fill_(0.05)
    model.save_pretrained(tmp_path / "adapters")
    evaluate("letters", out="plain")
    assert evaluate("letters", "--model_args", f"peft={tmp_path / 'adapters'}").code == 0
    assert evaluate("letters", "--model_args", "dtype=bfloat16", out="bf16").code == 0
    plain, adapted, coarse = (results(name) for name in ("plain", "out", "bf16"))
    assert len({found["tasks"]["letters"]["elbo"]["mean"] for found in (plain, adapted, coarse)}) == 3
    assert len({found["fingerprints"]["weights"] for found in (plain, adapted, coarse)}) == 3
    assert coarse["fingerprints"]["dtype"] == "bfloat16"


def test_what_made_the_numbers_is_written_with_them(evaluate, results, base):
    evaluate("letters", "--model_args", "cfg_scale=0.5")
    found = results()
    assert found["model"] == base
    assert found["settings"]["model"]["num_draws"] == 8
    assert found["settings"]["model"]["generation"] == {"cfg_scale": 0.5}
    assert found["settings"]["tasks"] == ["letters"]
    assert found["versions"]["lm_eval"]
    assert set(found["fingerprints"]) == {
        "weights", "network", "tokenizer", "dtype", "device", "attention", "estimator",
    }  # fmt: skip


def test_a_task_file_may_be_named_itself(unveil, base, task_folder):
    code, out, _ = unveil("evaluate", "--model_name_or_path", base, "--tasks", f"{task_folder}/letters.yaml")
    assert code == 0
    assert "letters" in out


BAD = {
    "unknown task": (("choos",), "--tasks choos: unknown task (close to choose)"),
    "missing task file": (("none.yaml",), "--tasks none.yaml: there is no such file"),
    "no task folder": (("choose", "--include_path", "nowhere"), "--include_path nowhere: there is no such folder"),
    "unknown key": (("choose", "--model_args", "num_draw=8"), "num_draw: unknown key (close to num_draws)"),
    "value of another type": (("choose", "--model_args", "gen_length=long"), "gen_length=long: is not a whole number"),
    "no equals sign": (("choose", "--model_args", "peft"), "must look like key=value"),
    "two models": (("choose", "--model_args", "pretrained=other"), "--model_args says pretrained=other"),
    "no adapters": (("choose", "--model_args", "peft=nowhere"), "peft=nowhere: holds no adapter_config.json"),
    "another mask token": (
        ("choose", "--model_args", "mask_token_id=7"),
        "--model_args mask_token_id=7: the model's config says 1",
    ),
    "no template": (
        ("choose", "--model_args", "chat_template=no.jinja"),
        "--model_args chat_template=no.jinja: cannot be read",
    ),
    "unknown device": (("choose", "--device", "abacus"), "--device abacus: unknown; give cpu, cuda"),
    "unknown preset": (("choose", "--preset", "llada-1.6"), "--preset llada-1.6: unknown (close to llada-1.5)"),
    "task without preset": (("choose", "--preset", "llada-1.5"), "states no settings for choose"),
    "canvas longer than the context": (("write", "--model_args", "gen_length=512"), "does not fit the model's 256"),
    "limit": (("choose", "--limit", 0), "--limit 0"),
    "draws": (("choose", "--model_args", "draw_design=odd"), "--draw_design odd: unknown"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(case, evaluate, monkeypatch):
    (tasks, *words), message = BAD[case]
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    code, out, err = evaluate(tasks, *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("unveil evaluate: error: ")
    assert message in err
    assert "Traceback" not in out + err


def test_a_model_without_chat_template_is_refused(evaluate, base, tmp_path):
    (tmp_path / "base" / "chat_template.jinja").unlink()
    code, _, err = evaluate("write", "--apply_chat_template")
    assert (code, err.count("\n")) == (2, 1)
    assert "has no chat template" in err


def test_a_mask_token_that_the_config_lacks_is_taken_from_model_args(evaluate, toy_tokenizer, base):
    """The same token named by the config, by --model_args beside it, or by --model_args alone: the same numbers."""
    assert evaluate("choose", "--model_args", "mask_token_id=1").code == 0
    path = Path(base) / "config.json"
    named = json.loads(path.read_text())
    path.write_text(json.dumps(named | {"mask_token_id": None}))
    toy_tokenizer.mask_token = None
    toy_tokenizer.save_pretrained(base)
    code, _, err = evaluate("choose", out="unnamed")
    assert (code, err.count("\n")) == (2, 1)
    assert "error: --model_args mask_token_id: the model's config names no mask_token_id" in err
    assert evaluate("choose", "--model_args", "mask_token_id=1", out="told").code == 0
    one, other = (json.loads((Path(base).parent / out / "results.json").read_text()) for out in ("out", "told"))
    assert one["tasks"] == other["tasks"]


def test_missing_data_is_named_with_its_task(evaluate, tmp_path):
    (tmp_path / "tasks" / "choose.jsonl").unlink()
    code, _, err = evaluate("choose")
    assert (code, err.count("\n")) == (2, 1)
    assert "task choose: its data file choose.jsonl is not there" in err


@pytest.mark.slow
def test_names_are_looked_for_among_lm_eval_s_own_tasks_too(evaluate):
    code, _, err = evaluate("hellaswagg")
    assert (code, err.count("\n")) == (2, 1)
    assert "--tasks hellaswagg: unknown task (close to hellaswag)" in err


def test_a_damaged_task_file_is_named(evaluate, tmp_path):
    (tmp_path / "tasks" / "broken.yaml").write_text("task: [unclosed")
    code, _, err = evaluate("broken")
    assert (code, err.count("\n")) == (2, 1)
    assert "--tasks broken: " in err
    assert "broken.yaml cannot be read" in err


def test_results_are_not_overwritten_unasked(evaluate):
    assert evaluate("letters").code == 0
    code, _, err = evaluate("letters")
    assert code == 2
    assert "holds results.json already; give --overwrite" in err
    assert "(answers and likelihoods that are known are used again) or another folder" in err


def test_the_missing_extra_is_named(evaluate, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, _, err = evaluate("choose")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install -c constraints.txt '.[eval]'" in err


@pytest.mark.slow
def test_lm_eval_is_not_imported_before_it_is_needed():
    program = "import sys, unveil.cli.evaluate, unveil.evaluation, unveil.cli.main; print('lm_eval' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_file_but_two_imports_lm_eval_with_itself():
    """`model` is lm-eval's class, `harness` uses it; all others import lm-eval, or those two, inside functions."""
    heavy = re.compile(r"^(import|from) (lm_eval|unveil\.evaluation\.(model|harness))\b", re.MULTILINE)
    files = Path(unveil.__file__).parent.rglob("*.py")
    found = {str(file.relative_to(Path(unveil.__file__).parent)) for file in files if heavy.search(file.read_text())}
    assert found == {"evaluation/model.py", "evaluation/harness.py"}


@pytest.mark.parametrize("relative", [False, True])
def test_tasks_move_with_their_data(evaluate, task_folder, tmp_path, unveil, base, monkeypatch, relative):
    shutil.move(task_folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    words = ("--tasks", "letters", "--include_path", "elsewhere" if relative else tmp_path / "elsewhere")
    assert unveil("evaluate", "--model_name_or_path", base, *words).code == 0


def test_lm_eval_knows_the_model_by_name(base):
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    import unveil.evaluation.model  # noqa: F401

    model = get_model("unveil").create_from_arg_string(
        f"pretrained={base},num_draws=4", {"batch_size": 1, "device": None}
    )
    [(value, greedy)] = model.loglikelihood([Instance("loglikelihood", {}, ("say ", "yes"), 0, ("t", 0, 1))])
    assert value < 0
    assert greedy is False
    assert model.estimates[("t", 0, 0)].tokens == 4  # the space belongs to the answer


def test_long_prompts_lose_their_beginning_and_that_is_told(base):
    from lm_eval.api.instance import Instance

    from unveil.errors import UserInputWarning
    from unveil.evaluation.model import UnveilLM

    model = UnveilLM(pretrained=base, max_length=16, add_bos_token=True)
    with pytest.warns(UserInputWarning, match="1 prompts are longer than the model's 16 tokens"):
        model.loglikelihood([Instance("loglikelihood", {}, ("a" * 10 + "bcdefghijkl", "end"), 0, ("t", 0, 1))])
    assert model._target("a" * 10 + "bcdefghijkl", "end").prompt_ids[0] == 2
    assert len(model._target("a" * 10 + "bcdefghijkl", "end").prompt_ids) == 13


def test_repeats_of_a_question_are_answered_anew(base):
    from lm_eval.api.instance import Instance

    from unveil.evaluation.model import UnveilLM

    model = UnveilLM(pretrained=base, gen_length=16, temperature=1.0)
    asked = Instance("generate_until", {}, ("say", {"until": []}), 0, ("t", 0, 2))
    other = Instance("generate_until", {}, ("say", {"until": []}), 0, ("t", 1, 1))
    first, second, third = model.generate_until([asked, asked, other])
    assert first != second
    assert first == third
