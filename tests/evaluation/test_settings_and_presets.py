"""What may be said to the model, which of several voices wins, and what presets state."""

import pytest

from unveil.errors import UserError, UserInputWarning
from unveil.evaluation import PRESETS, parse_model_args, preset_named, settings_of
from unveil.evaluation.answers import Question, cut, sampler_config, stop_strings
from unveil.generation import GenerationConfig


def test_texts_become_values_of_the_right_type():
    text = (
        "pretrained=a/b, num_draws=64,exact_short=false,gen_length=32,temperature=0.5,block_length=None,dtype=float32"
    )
    found = settings_of(parse_model_args(text))
    assert (found.pretrained, found.num_draws, found.exact_short, found.dtype) == ("a/b", 64, False, "float32")
    assert found.generation == {"gen_length": 32, "temperature": 0.5, "block_length": None}


def test_what_lm_eval_passes_to_every_model_is_let_through():
    assert settings_of({"pretrained": "a", "batch_size": 8, "max_batch_size": None}).pretrained == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrained=a,num_draw=1", r"num_draw: unknown key \(close to num_draws\)"),
        ("pretrained=a,genlength=1", r"genlength: unknown key \(close to gen_length\)"),
        ("pretrained=a,num_draws=many", "num_draws=many: is not a whole number"),
        ("pretrained=a,exact_short=maybe", "exact_short=maybe: is not true or false"),
        ("pretrained=a,num_draws=None", "num_draws=None: a value is needed"),
        ("pretrained=a,num_draws=0", "--num_draws 0"),
        ("pretrained=a,tokens_per_batch=0", "tokens_per_batch=0: at least 1"),
        ("pretrained=a,batching=some", "batching=some: unknown"),
        ("pretrained=a,pretrained=b", "given twice"),
        ("pretrained", "must look like key=value"),
        ("num_draws=8", "pretrained: is missing"),
    ],
)
def test_wrong_model_args_are_named(text, message):
    with pytest.raises(UserError, match=message):
        settings_of(parse_model_args(text))


def test_every_option_of_the_sampler_can_be_given():
    values = {"gen_length": "64", "steps": "64", "block_length": "64", "remasking": "random", "eos_rule": "late"}
    assert settings_of({"pretrained": "a", **values}).generation["remasking"] == "random"


def test_the_user_wins_over_the_task_and_the_task_over_defaults():
    task = {"until": ["\n"], "max_gen_toks": 64, "do_sample": False, "temperature": 0.7}
    assert sampler_config({}, task, 3) == GenerationConfig(gen_length=64, block_length=32, temperature=0.0, seed=3)
    sampled = sampler_config({}, task | {"do_sample": True}, 0)
    assert sampled.temperature == 0.7
    assert sampler_config({"gen_length": 48, "temperature": 1}, task, 0) == GenerationConfig(
        gen_length=48, block_length=None, temperature=1.0
    )
    assert sampler_config({}, {}, 0).gen_length == 256


def test_options_that_mean_nothing_here_are_told():
    with pytest.warns(UserInputWarning, match="task t: its generation_kwargs repetition_penalty mean nothing"):
        sampler_config({}, {"repetition_penalty": 1.1}, 0, "task t")


def test_an_answer_ends_before_the_first_stop_string():
    assert cut("one two three two", ["three", "two"]) == "one "
    assert cut("one", ["two"]) == "one"
    assert cut("one", []) == "one"
    assert (stop_strings(None), stop_strings("a"), stop_strings(["a", ""])) == ((), ("a",), ("a",))


def test_repeats_of_a_prompt_have_noise_of_their_own():
    config = GenerationConfig(gen_length=8, block_length=8)
    one, two = (Question((1, 2), config, number=number) for number in (0, 1))
    assert one.index != two.index
    assert one.index == Question((1, 2), GenerationConfig(gen_length=16, block_length=16)).index


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_cited_and_can_be_used(name):
    preset = preset_named(name)
    assert "arXiv" in preset.source
    settings_of({"pretrained": "a", **preset.model})
    for task in preset.tasks.values():
        assert sampler_config(task.sampler, {}, 0).gen_length == task.sampler.get("gen_length", 256)


def test_presets_say_what_their_tables_say():
    assert preset_named("llada-1.5").for_task("gsm8k").sampler == {
        "gen_length": 256, "block_length": 16, "eos_rule": "late",
    }  # fmt: skip
    assert "eos_rule" not in preset_named("llada-1.5").for_task("gpqa_main_n_shot").sampler
    assert preset_named("llada-1.5").for_task("minerva_math_algebra").sampler["gen_length"] == 1024
    assert preset_named("elbo-kto").for_task("gsm8k").num_fewshot == 5
    assert preset_named("llada-base").for_task("gsm8k").sampler == {"gen_length": 1024, "block_length": 1024}
    shots = {"arc_challenge": 0, "truthfulqa_mc2": 0, "winogrande": 5, "mmlu_anatomy": 5, "gsm8k": None}
    assert {task: preset_named("llada-base").for_task(task).num_fewshot for task in shots} == shots
    diffusion = preset_named("llada-instruct-diffusion")
    assert diffusion.for_task("mmlu_pro_law").sampler == {"gen_length": 256, "block_length": 256}
    assert diffusion.for_task("mmlu_generative").sampler == {"gen_length": 3, "block_length": 3}
    with pytest.raises(UserError, match="states no settings for humaneval"):
        diffusion.for_task("humaneval")
    with pytest.raises(UserError, match="states no settings for ifeval"):
        preset_named("elbo-kto").for_task("ifeval")
    with pytest.raises(UserError, match=r"unknown \(close to elbo-kto\)"):
        preset_named("elbo_kto")


@pytest.mark.parametrize(
    ("preset", "task", "length", "temperature", "top_p", "shots"),
    [
        ("dream-base", "gsm8k_cot", 256, 0.0, 0.95, 8),
        ("dream-base", "minerva_math_algebra", 512, 0.0, 0.95, 4),
        ("dream-base", "bbh_cot_fewshot_snarks", 512, 0.0, 0.95, 3),
        ("dream-base", "humaneval", 512, 0.2, 0.95, 0),
        ("dream-base", "mbpp", 512, 0.2, 0.95, 3),
        ("dream-instruct", "gsm8k_cot", 256, 0.1, 0.9, 0),
        ("dream-instruct", "minerva_math_algebra", 512, 0.1, 0.9, 0),
        ("dream-instruct", "mmlu_generative", 128, 0.1, 0.9, 4),
        ("dream-instruct", "mmlu_pro", 128, 0.1, 0.9, 4),
        ("dream-instruct", "humaneval_instruct", 768, 0.1, 0.9, 0),
        ("dream-instruct", "mbpp_instruct", 1024, 0.1, 0.9, 0),
        ("dream-instruct", "ifeval", 1280, 0.1, 0.9, 0),
    ],
)
def test_dream_answers_as_its_scripts_say(preset, task, length, temperature, top_p, shots):
    """Whatever the task's own file says of its sampler."""
    found = preset_named(preset).for_task(task)
    config = sampler_config(found.sampler, {"max_gen_toks": 64, "do_sample": False}, 0)
    assert found.num_fewshot == shots
    assert config == GenerationConfig(
        gen_length=length, block_length=length, temperature=temperature, top_p=top_p, remasking="entropy"
    )
    assert (config.num_blocks, config.num_steps, config.cfg_scale) == (1, length, 0.0)
