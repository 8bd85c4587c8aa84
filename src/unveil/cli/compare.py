"""`unveil compare`: win rate of one model against another on the same prompts, settings and seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from unveil.cli.compare_output import WRITTEN, Compared, print_results, write_results, write_verdicts
from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.judges import NAMES, JudgeArguments
from unveil.cli.kept_answers import (
    ANSWERS,
    DATA_FLAGS,
    MODEL_FLAGS,
    KeptAnswers,
    fingerprint_of_answers,
    without_results,
)
from unveil.cli.loading import load_for_use
from unveil.cli.options import HeldOutArguments, UseArguments
from unveil.cli.parser import CommandLine
from unveil.cli.preflight import columns_for
from unveil.cli.prompting import Answer, GenerationArguments, answer, as_text, prompt_ids, read_prompts
from unveil.errors import UserError
from unveil.files import require_empty
from unveil.generation import GenerationConfig
from unveil.judging import Judge, Judgement, judge_answers
from unveil.judging.judge import Columns
from unveil.judging.panel import Panel
from unveil.locks import claim_folder
from unveil.models import Denoiser
from unveil.terminal import say

DESCRIPTION = """Answer the same prompts with models A and B under the same settings and seeds, and let one or several
judges say which answer is better. Ties count half, intervals are over prompts, a judge that may favour a position is
asked in both orders, and a verdict that cannot be read is counted, never guessed."""

_MOST_REPEATS = 1000


@dataclass
class ComparedModels(UseArguments):
    """Which models, in which precision, where"""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Model A: hub name, folder, or folder of LoRA adapters.", "aliases": ["--model"]},
    )
    against: str | None = field(default=None, metadata={"help": "Model B, in the same forms."})


@dataclass
class CompareArguments(HeldOutArguments):
    """Which prompts, where the result goes"""

    judge_repeats: int = field(
        default=1, metadata={"help": "How often each judge is asked about a pair; above 1 shows its self-consistency."}
    )
    null: bool = field(default=False, metadata={"help": "Also B against itself with other seeds: should be at 0.5."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for compare.json, comparisons.jsonl, the figure and the page to read."}
    )
    resume: bool = field(
        default=False, metadata={"help": "Go on with the answers in --output_dir, if settings and models are the same."}
    )


COMMAND_LINE = CommandLine(
    (ComparedModels, CompareArguments, JudgeArguments, GenerationArguments),
    "unveil compare",
    DESCRIPTION,
    {
        "model_name_or_path": "model A (also as --model)",
        "against": "model B",
        "dataset_name": "prompts",
        "judge": NAMES,
    },
)


def main(argv: Sequence[str]) -> None:
    """Parse, ask whether the judges can judge, load, sample twice, judge, print, write."""
    models, data, panel, settings = COMMAND_LINE.read(argv)
    settings.check()
    if data.null:
        settings.require_randomness("--null")
    folder = output_folder(data)
    if folder:
        written = [folder / name for name in (*WRITTEN, ANSWERS)]
        refuse_to_lose_inputs(written, "--output_dir", argv, models, data, panel, own_names=True)
    judges = load_judges(panel, data.judge_repeats)
    rows, source = read_prompts(data, None, settings.chat)
    columns_of = columns_for(judges, data, rows)
    names = {"A": str(models.model_name_or_path), "B": str(models.against)}
    loaded = {side: load_for_use(models, name) for side, name in names.items()}
    for side, name in names.items():
        settings = settings.ending(name, loaded[side][1])
    configs = settings.configs(shortest(denoiser for denoiser, _ in loaded.values()))
    named = {flag: getattr(models, flag) for flag in MODEL_FLAGS} | {flag: getattr(data, flag) for flag in DATA_FLAGS}
    asked, answers = sample_all(rows, source, data, settings, configs, loaded, folder, named)
    seeds = [config.seed for config in configs]
    compared = Compared(names, source, configs, data.max_samples, origins(asked, seeds), vote=panel.judge_vote)
    prompts = [as_text(row["prompt"]) for row in asked]
    place = {number: place for place, number in enumerate(rows["row"])}
    places = [place[row["row"]] for row in asked]
    for number, judge in enumerate(judges):
        columns = chosen(columns_of[number], places)
        compared.judgements.append(judge_samples(judge, prompts, answers["A"], answers["B"], columns))
        if data.null:
            compared.nulls.append(judge_samples(judge, prompts, answers["B"], answers["B again"], columns))
        for repeat in range(1, data.judge_repeats):
            again = judge_samples(
                judge_again(panel, number, judge, repeat), prompts, answers["A"], answers["B"], columns
            )
            compared.repeats.setdefault(number, []).append(again)
        if folder:
            write_verdicts(folder, compared)
    print_results(compared)
    if folder:
        write_results(folder, compared)
        say(f"saved in {data.output_dir}")
    compared.require_a_win_rate()


def shortest(denoisers: Iterable[Denoiser]) -> int | None:
    """What every model can hold, in tokens; None where none has a limit."""
    return min((each.max_length for each in denoisers if each.max_length is not None), default=None)


def sample_all(
    rows: Dataset,
    source: str,
    data: CompareArguments,
    settings: GenerationArguments,
    configs: list[GenerationConfig],
    loaded: dict[str, tuple[Denoiser, PreTrainedTokenizerBase]],
    folder: Path | None,
    named: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, list[list[Answer]]]]:
    """Rows whose prompts both models can use, and the answers of A, of B, and (for the null) of B again."""
    ids = {side: prompt_ids(rows, source, data, *loaded[side], configs[0].gen_length) for side in loaded}
    asked: dict[int, Any] = {row["row"]: row for row in rows if all(row["row"] in ids[side] for side in ids)}  # type: ignore[index, call-overload]
    if not asked:
        raise UserError(f"{source}: no prompt can be used by both models; correct the rows")
    fingerprint = {}
    if folder:
        fingerprint = fingerprint_of_answers(loaded, settings, configs[0], data.max_prompt_length, named)
    kept = KeptAnswers(folder, fingerprint, data.resume)

    def sample(side: str, config: GenerationConfig) -> list[Answer]:
        return kept.complete(
            side,
            config.seed,
            {number: ids[side][number] for number in asked},
            {number: int(row["example_id"]) for number, row in asked.items()},
            lambda part: answer(*loaded[side], part, settings, config),
            at_once=max(32, 2 * settings.tokens_per_batch // configs[0].gen_length),
        )

    answers = {side: [sample(side, config) for config in configs] for side in loaded}
    if data.null:
        answers["B again"] = [sample("B", replace(config, seed=config.seed + len(configs))) for config in configs]
    if kept.reused:
        say(f"{kept.reused} answers were in {folder} already")
    return list(asked.values()), answers


def output_folder(data: CompareArguments) -> Path | None:
    """Where results go; refused if something is there that was not meant to be used or replaced."""
    if data.resume and not data.output_dir:
        raise UserError("--resume: there is nothing to go on with; give --output_dir")
    if data.resume and data.overwrite:
        raise UserError("--resume and --overwrite: one keeps what the other replaces; give one of them")
    if not data.output_dir:
        return None
    folder = Path(data.output_dir)
    claim_folder(folder)
    if without_results(folder):
        return folder
    if (folder / ANSWERS).is_file() and not (data.resume or data.overwrite):
        raise UserError(
            f"--output_dir {folder}: holds answers already; give --resume to use them again, --overwrite to replace "
            "them, or another folder"
        )
    if not (data.resume and (folder / ANSWERS).is_file()):
        require_empty(folder, data.overwrite)
    return folder


def load_judges(panel: JudgeArguments, repeats: int) -> list[Judge]:
    """The judges that were named, each under a name of its own."""
    if repeats < 1:
        raise UserError(f"--judge_repeats {repeats}: at least 1 is needed")
    if repeats > _MOST_REPEATS:
        raise UserError(f"--judge_repeats {repeats}: a judge is asked at most {_MOST_REPEATS} times")
    panel.require_read()
    judges = panel.load_all()
    vote: Any = panel.judge_vote
    Panel(judges, vote)  # refuses an unknown vote before any work
    known: dict[str, str] = {}
    for flag, judge in zip(panel.judge or [], judges):
        if known.setdefault(judge.name, flag) != flag:
            raise UserError(
                f"--judge {flag}: calls itself {judge.name!r} as --judge {known[judge.name]} does; give them names of "
                "their own"
            )
    return judges


def judge_again(panel: JudgeArguments, number: int, judge: Judge, repeat: int) -> Judge:
    """The judge to ask once more; an endpoint is sent another seed, or its cache would give the same words again."""
    flag = (panel.judge or [])[number]
    if flag.partition(":")[0] != "openai":
        return judge
    return replace(panel, judge=[flag], judge_seed=(panel.judge_seed or 0) + repeat).load()


def chosen(columns: Columns | None, places: list[int]) -> Columns | None:
    """The values of the rows that are asked about."""
    return columns and {name: [values[place] for place in places] for name, values in columns.items()}


def judge_samples(
    judge: Judge, prompts: list[str], a: list[list[Answer]], b: list[list[Answer]], columns: Columns | None
) -> Judgement:
    """All samples of all prompts; what answers the same prompt is one unit of evidence."""
    return judge_answers(
        judge,
        prompts * len(a),
        [answer.text for sample in a for answer in sample],
        [answer.text for sample in b for answer in sample],
        columns and {name: list(values) * len(a) for name, values in columns.items()},
    )


def origins(asked: list[dict[str, Any]], seeds: list[int]) -> list[dict[str, int]]:
    """Which row and seed each comparison is about, in the order of `judge_samples`."""
    return [{"example_id": row["example_id"], "seed": seed} for seed in seeds for row in asked]
