"""Arguments that transformers takes: refused at once where they would fail later, never without effect in silence."""

import warnings

import pytest

from unveil.errors import UserError, UserInputWarning
from unveil.training import PreferenceConfig, SFTConfig

CONFIGS = (PreferenceConfig, SFTConfig)


def made(kind=PreferenceConfig, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserInputWarning)
        return kind(output_dir="unused", use_cpu=True, **arguments)


def rows(value, message, *names):
    return [(name, value, message) for name in names]


REFUSED = [
    *rows(
        0, "must be at least 1", "per_device_train_batch_size", "per_device_eval_batch_size", "max_eval_samples",
        "gradient_accumulation_steps", "save_total_limit", "max_length", "max_prompt_length", "torch_empty_cache_steps",
    ),
    *rows(
        float("nan"), "must be a finite number", "learning_rate", "weight_decay", "adam_beta1", "adam_epsilon",
        "num_train_epochs", "max_grad_norm", "warmup_steps", "logging_steps", "eval_steps", "save_steps", "eval_delay",
        "label_smoothing_factor", "neftune_noise_alpha", "strata_exponent", "row_budget",
    ),
    *rows(
        -1, "must be at least 0", "learning_rate", "weight_decay", "adam_beta2", "seed", "data_seed", "draw_seed",
        "dataloader_num_workers", "warmup_steps", "eval_delay",
    ),
    *rows(0, "must be above 0", "logging_steps", "eval_steps", "save_steps"),
    *rows(
        10**20, "must be at most", "per_device_train_batch_size", "max_steps", "gradient_accumulation_steps", "seed",
        "draw_seed", "max_length", "dataloader_num_workers", "max_eval_samples",
    ),
    ("adam_beta1", 1.0, "must be at least 0 and below 1"),
]  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_a_number_out_of_range_is_refused_by_the_name_of_its_flag(kind, name, value, message):
    with pytest.raises(UserError, match=f"^--{name} .*{message}"):
        made(kind, **{name: value})


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_an_infinite_number_is_refused(value):
    with pytest.raises(UserError, match=r"--num_train_epochs .*finite"):
        made(num_train_epochs=value)


@pytest.mark.parametrize("epochs", [0, -1])
def test_a_run_without_a_step_is_refused(epochs):
    with pytest.raises(UserError, match="nothing would be trained"):
        made(num_train_epochs=epochs)
    assert made(num_train_epochs=epochs, max_steps=1).max_steps == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing_factor", 0.1),
        ("neftune_noise_alpha", 5.0),
        ("remove_unused_columns", True),
        ("auto_find_batch_size", True),
        ("include_num_input_tokens_seen", "all"),
        ("label_names", ["label"]),
        ("use_liger_kernel", True),
        ("train_sampling_strategy", "group_by_length"),
    ],
)
def test_an_argument_without_meaning_is_refused(name, value):
    with pytest.raises(UserError, match=f"--{name} .*leave it out"):
        made(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prediction_loss_only", True),
        ("eval_accumulation_steps", 2),
        ("do_train", True),
        ("include_for_metrics", ["x"]),
    ],
)
def test_an_argument_without_effect_is_named(name, value):
    with pytest.warns(UserInputWarning, match=f"--{name}: without effect here"):
        PreferenceConfig(output_dir="unused", use_cpu=True, **{name: value})


def test_arguments_of_an_ordinary_run_pass_without_a_word():
    made(
        label_smoothing_factor=0.0, neftune_noise_alpha=None, save_total_limit=2, seed=0, warmup_steps=10,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=0.0, dataloader_num_workers=2,
        dataloader_persistent_workers=True, data_seed=1, average_tokens_across_devices=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optim": "adamw_8bit"}, "--optim adamw_8bit: .*choose another one, or install"),
        ({"optim_args": "x"}, "--optim adamw_torch_fused: "),
        (
            {"lr_scheduler_type": "warmup_stable_decay"},
            "warmup_stable_decay: .*lr_scheduler_kwargs",
        ),
        ({"lr_scheduler_kwargs": {"a": 1}}, "--lr_scheduler_type cosine: .*'a'"),
        ({"lr_scheduler_kwargs": ""}, "--lr_scheduler_kwargs .*must be a mapping"),
        ({"lr_scheduler_kwargs": [1]}, "--lr_scheduler_kwargs .*must be a mapping"),
        ({"report_to": "tensorboardx"}, "--report_to tensorboardx: unknown; choose of none, all"),
        ({"report_to": ["swanlab"]}, "--report_to swanlab: is not installed"),
        ({"torch_compile_backend": "x"}, "--torch_compile_backend x: choose one of"),
        ({"torch_compile_backend": ""}, "--torch_compile_backend : choose one of"),
        ({"torch_compile_mode": "x"}, "--torch_compile_mode x: choose one of default"),
        ({"dataloader_persistent_workers": True}, "--dataloader_persistent_workers: needs --dataloader_num_workers"),
    ],
)
def test_a_part_that_cannot_be_made_is_refused_before_a_model_is_loaded(arguments, message):
    with pytest.raises(UserError, match=message) as found:
        made(**arguments)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "adafactor", "rmsprop"])
def test_optimizers_of_torch_pass(name):
    made(optim=name)


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "polynomial", "inverse_sqrt", "cosine_with_restarts"])
def test_schedules_without_settings_pass(name):
    made(lr_scheduler_type=name)
