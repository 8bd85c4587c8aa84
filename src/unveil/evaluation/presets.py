"""The settings behind the tables of the papers, by name: `unveil evaluate --preset llada-1.5 --tasks gsm8k`.

Only what the cited sources state is here. What they do not state is left to the defaults (one token per forward where
the number of steps is open) and to the task's own file (prompt, stop strings, number of shots); a task that a source
does not state settings for is not in its preset. Scores also depend on the prompt and on how answers are extracted, so
that a table is reproduced only if those agree too.

Sources: for LLaDA and LLaDA 1.5 the papers, EVAL.md, eval_llada_lm_eval.sh and opencompass/examples of ML-GSAI/LLaDA
(one token per forward throughout, no guidance of answers); for Dream eval/eval_dream_gen.sh, eval/eval_dream_mc.sh,
eval/eval.py and eval_instruct/eval.sh of DreamLM/Dream (one block, one step per token, surest by entropy, unguided).
What they state and no preset can say: LLaDA's guided likelihoods (scale 0.5 for ARC-C, HellaSwag, PIQA and GPQA, 2 for
TruthfulQA, 0 for the others; here guidance is about answers); LLaDA's HumanEval by pure diffusion (the end token
forbidden, the end of a turn not); Dream's measure of entropy after temperature and nucleus, not before, and the end
token that it shows behind the target of a likelihood.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from unveil.errors import UserError

# lm-eval's names for what the papers call the benchmark.
_NAMES = {
    "gsm8k": ("gsm8k", "gsm8k_*"),
    "math": ("minerva_math", "minerva_math_*", "hendrycks_math", "hendrycks_math_*"),
    "gpqa": ("gpqa", "gpqa_*"),
    "humaneval": ("humaneval", "humaneval_*"),
    "mbpp": ("mbpp", "mbpp_*"),
    "ifeval": ("ifeval",),
    "mmlu-pro": ("mmlu_pro", "mmlu_pro_*"),  # before mmlu, whose pattern has it too
    "mmlu": ("mmlu", "mmlu_*"),
    "cmmlu": ("cmmlu", "cmmlu_*"),
    "c-eval": ("ceval-valid", "ceval-valid_*"),
    "bbh": ("bbh", "bbh_*"),
    "race": ("race",),
    "hellaswag": ("hellaswag",),
    "arc": ("arc_challenge", "arc_easy", "ai2_arc"),
    "arc-generated": ("arc_challenge_chat",),
    "truthfulqa": ("truthfulqa_*",),
    "winogrande": ("winogrande",),
    "piqa": ("piqa",),
}
# Where end tokens may be committed last only; LLaDA's second one is part of the rule.
_LATE: dict[str, Any] = {"eos_rule": "late"}
_END_OF_TURN = "<|eot_id|>"


@dataclass(frozen=True)
class TaskPreset:
    """Options of the sampler, and the number of shots where the source states one."""

    sampler: Mapping[str, Any] = field(default_factory=dict)
    num_fewshot: int | None = None


@dataclass(frozen=True)
class Preset:
    """Settings of a paper's table. `model`: keys of --model_args for all tasks."""

    name: str
    source: str
    tasks: Mapping[str, TaskPreset]
    model: Mapping[str, Any] = field(default_factory=dict)

    def for_task(self, task: str) -> TaskPreset:
        """What the preset says of a task by lm-eval's name. Raises `UserError` where it says nothing."""
        for benchmark, settings in self.tasks.items():
            if any(fnmatchcase(task, pattern) for pattern in _NAMES[benchmark]):
                return settings
        raise UserError(
            f"--preset {self.name}: its source states no settings for {task}, only for {', '.join(self.tasks)}; "
            "evaluate that task without the preset"
        )


def _canvas(gen_length: int, block_length: int, shots: int | None = None, **more: Any) -> TaskPreset:
    return TaskPreset({"gen_length": gen_length, "block_length": block_length, **more}, shots)


def _dream(gen_length: int, shots: int, temperature: float, top_p: float) -> TaskPreset:
    return _canvas(gen_length, gen_length, shots, temperature=temperature, top_p=top_p, remasking="entropy")


_LLADA = "LLaDA (arXiv 2502.09992)"
_DREAM = "Dream 7B (arXiv 2508.15487)"
PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "llada-base",
            f"{_LLADA}, likelihood tasks of the base model without guidance, and get_log_likelihood.py of its code: "
            "128 draws with evenly spaced sizes, one for targets of a single token; generated answers of 1024 tokens "
            "in one block; shots of eval_llada_lm_eval.sh",
            {
                **dict.fromkeys(("arc", "hellaswag", "truthfulqa", "piqa"), TaskPreset(num_fewshot=0)),
                **dict.fromkeys(("winogrande", "gpqa", "mmlu", "cmmlu", "c-eval"), TaskPreset(num_fewshot=5)),
                **dict.fromkeys(("bbh", "gsm8k", "math", "humaneval", "mbpp"), _canvas(1024, 1024)),
            },
            {"num_draws": 128, "draw_design": "systematic", "exact_short": False},
        ),
        Preset(
            "llada-instruct",
            f"{_LLADA}, semi-autoregressive sampling of LLaDA-8B-Instruct: GSM8K length 256 in blocks of 8, MATH "
            "length 512 in blocks of 64",
            {"gsm8k": _canvas(256, 8), "math": _canvas(512, 64)},
        ),
        Preset(
            "llada-instruct-diffusion",
            f"{_LLADA}, pure diffusion sampling of LLaDA-8B-Instruct, and EVAL.md of its code: one block of a length "
            "per task, end tokens with confidence zero but for MMLU, MMLU-Pro and ARC-C",
            {
                "gsm8k": _canvas(512, 512, **_LATE),
                "math": _canvas(512, 512, **_LATE),
                "gpqa": _canvas(64, 64, **_LATE),
                "mbpp": _canvas(256, 256, **_LATE),
                "ifeval": _canvas(512, 512, **_LATE),
                "mmlu-pro": _canvas(256, 256),
                "mmlu": _canvas(3, 3),
                "arc-generated": _canvas(512, 512),
            },
            {"stop_tokens": _END_OF_TURN},
        ),
        Preset(
            "llada-1.5",
            "LLaDA 1.5 (VRPO, arXiv 2505.19223): canvas and block per task; end tokens last but for GPQA",
            {
                "gsm8k": _canvas(256, 16, **_LATE),
                "math": _canvas(1024, 128, **_LATE),
                "gpqa": _canvas(256, 16),
                "humaneval": _canvas(512, 32, **_LATE),
                "mbpp": _canvas(512, 32, **_LATE),
                "ifeval": _canvas(256, 16, **_LATE),
            },
            {"stop_tokens": _END_OF_TURN},
        ),
        Preset(
            "elbo-kto",
            "ELBO-KTO (arXiv 2510.23658), downstream tasks and its code (vaibhavjindal/elbo-kto): GSM8K 5 shots, "
            "length 256 in blocks of 8; HumanEval 0 shots, length 512 in blocks of 32; MMLU 5 shots, generated answers "
            "of 3 tokens; GPQA 5 and HellaSwag 0 shots",
            {
                "gsm8k": _canvas(256, 8, 5),
                "humaneval": _canvas(512, 32, 0),
                "mmlu": TaskPreset({"gen_length": 3}, 5),
                "gpqa": TaskPreset(num_fewshot=5),
                "hellaswag": TaskPreset(num_fewshot=0),
            },
        ),
        Preset(
            "dream-base",
            f"{_DREAM}, eval/ of its code (DreamLM/Dream) for Dream-v0-Base-7B: entropy, one block, one step per "
            "token, top_p 0.95, temperature 0.2 for programs and 0 elsewhere; likelihoods by 128 draws",
            {
                "gsm8k": _dream(256, 8, 0.0, 0.95),
                "math": _dream(512, 4, 0.0, 0.95),
                "bbh": _dream(512, 3, 0.0, 0.95),
                "humaneval": _dream(512, 0, 0.2, 0.95),
                "mbpp": _dream(512, 3, 0.2, 0.95),
                **dict.fromkeys(("arc", "hellaswag", "piqa", "race"), TaskPreset(num_fewshot=0)),
                **dict.fromkeys(("mmlu", "gpqa", "winogrande"), TaskPreset(num_fewshot=5)),
            },
            {"num_draws": 128, "add_bos_token": True},
        ),
        Preset(
            "dream-instruct",
            f"{_DREAM}, eval_instruct/ of its code (DreamLM/Dream) for Dream-v0-Instruct-7B: entropy, one block, one "
            "step per token, temperature 0.1, top_p 0.9; GPQA by likelihood with 32 draws",
            {
                "gsm8k": _dream(256, 0, 0.1, 0.9),
                "math": _dream(512, 0, 0.1, 0.9),
                "mmlu-pro": _dream(128, 4, 0.1, 0.9),
                "mmlu": _dream(128, 4, 0.1, 0.9),
                "humaneval": _dream(768, 0, 0.1, 0.9),
                "mbpp": _dream(1024, 0, 0.1, 0.9),
                "ifeval": _dream(1280, 0, 0.1, 0.9),
                "gpqa": TaskPreset(num_fewshot=5),
            },
            {"num_draws": 32},
        ),
    )
}


def preset_named(name: str) -> Preset:
    """A preset by name. Raises `UserError` with the nearest known one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" (close to {near[0]})" if near else ""
        raise UserError(f"--preset {name}: unknown{hint}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def settings_by_task(preset: Preset, tasks: Sequence[str]) -> dict[str, TaskPreset]:
    """What the preset says of each task."""
    return {task: preset.for_task(task) for task in tasks}
