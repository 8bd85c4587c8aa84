"""`unveil compare`: win rate of one model against another on the same prompts, settings and seeds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from rich.console import Console
from rich.table import Table

from unveil.cli.judges import HUMAN_RATINGS, load_judge
from unveil.cli.loading import load_for_use
from unveil.cli.options import HeldOutArguments, UseArguments
from unveil.cli.output import write_rows
from unveil.cli.parser import parse
from unveil.cli.prompting import Answer, GenerationArguments, answer, as_text, prompt_ids, read_prompts
from unveil.errors import UserError
from unveil.files import require_empty, write_json
from unveil.generation import GenerationConfig
from unveil.judging import Comparison, Judge, compare_answers
from unveil.training import versions

DESCRIPTION = """Answer the same prompts with models A and B under the same settings and seeds, and let a judge say
which answer is better. Ties count half, the interval is over prompts, and a judge that may favour a position is asked
in both orders."""


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
    """Which prompts, which judge, where the result goes"""

    judge: str | None = field(
        default=None, metadata={"help": f"{HUMAN_RATINGS} (of film reviews), or module:attribute for one of your own."}
    )
    null: bool = field(default=False, metadata={"help": "Also B against itself with other seeds: should be at 0.5."})
    output_dir: str | None = field(default=None, metadata={"help": "Folder for compare.json and comparisons.jsonl."})


def main(argv: Sequence[str]) -> None:
    """Parse, load, sample twice, judge, print, write."""
    models, data, settings = parse(
        (ComparedModels, CompareArguments, GenerationArguments),
        argv,
        "unveil compare",
        DESCRIPTION,
        required={
            "model_name_or_path": "model A (also as --model)",
            "against": "model B",
            "dataset_name": "prompts",
            "judge": f"{HUMAN_RATINGS}, or module:attribute",
        },
    )
    configs = settings.configs()
    if data.null:
        settings.require_randomness("--null")
    if data.output_dir:
        require_empty(data.output_dir, data.overwrite)
    judge = load_judge(data.judge)
    rows, source = read_prompts(data, None, settings.chat)
    names = {"A": str(models.model_name_or_path), "B": str(models.against)}
    loaded = {side: load_for_use(models, name) for side, name in names.items()}
    ids = {side: prompt_ids(rows, source, data, *loaded[side]) for side in names}
    places = [place for place in ids["A"] if place in ids["B"]]
    if not places:
        raise UserError(f"{source}: no prompt can be used by both models; correct the rows")

    def sample(side: str, config: GenerationConfig) -> list[Answer]:
        return answer(*loaded[side], {place: ids[side][place] for place in places}, settings, config)

    answers = {side: [sample(side, config) for config in configs] for side in names}
    seeds = [config.seed for config in configs]
    results = {"A against B": judged(judge, rows, places, answers["A"], answers["B"], seeds)}
    if data.null:
        others = [sample("B", replace(config, seed=config.seed + len(configs))) for config in configs]
        results["B against B"] = judged(judge, rows, places, answers["B"], others, seeds)
    print_results(names, results)
    if data.output_dir:
        write_results(Path(data.output_dir), data, names, source, configs, results)
        print(f"saved in {data.output_dir}")


def judged(
    judge: Judge,
    rows: Dataset,
    places: list[int],
    answers_a: list[list[Answer]],
    answers_b: list[list[Answer]],
    seeds: list[int],
) -> Comparison:
    """All samples of all prompts; what answers the same prompt is one unit of evidence."""
    prompts = [as_text(rows[place]["prompt"]) for place in places]
    comparison = compare_answers(
        judge,
        prompts * len(seeds),
        [answer.text for sample in answers_a for answer in sample],
        [answer.text for sample in answers_b for answer in sample],
    )
    origins = [(rows[place]["example_id"], seed) for seed in seeds for place in places]
    for row, (example_id, seed) in zip(comparison.rows, origins):
        row.update(example_id=example_id, seed=seed)
    return comparison


def print_results(names: dict[str, str], results: dict[str, Comparison]) -> None:
    """One line for each model, one row for each comparison."""
    for side, name in names.items():
        print(f"{side}: {name}")
    table = Table("", "win rate", "95 % interval", "wins", "ties", "losses", "prompts", "words", "length ratio")
    for title, result in results.items():
        rate = result.win_rate
        table.add_row(
            title,
            f"{rate.rate:.3f}",
            f"{rate.low:.3f} to {rate.high:.3f}",
            *[str(count) for count in (rate.wins, rate.ties, rate.losses, rate.n)],
            f"{result.mean_length_a:.1f} / {result.mean_length_b:.1f}",
            "-" if result.length_ratio is None else f"{result.length_ratio:.2f}",
        )
    Console(width=118).print(table)
    first = next(iter(results.values()))
    print(first.describe())


def write_results(
    folder: Path,
    data: CompareArguments,
    names: dict[str, str],
    source: str,
    configs: list[GenerationConfig],
    results: dict[str, Comparison],
) -> None:
    """`compare.json` with everything that made the numbers, `comparisons.jsonl` with every pair of answers."""
    first = results["A against B"]
    null = results.get("B against B")
    summary: dict[str, Any] = {
        "model": names["A"],
        "against": names["B"],
        "data": source,
        "judge": first.judge,
        "results": {
            "adjusted_win_rate": first.win_rate.rate,
            "interval": [first.win_rate.low, first.win_rate.high],
            "null_win_rate": null.win_rate.rate if null else None,
            "length_ratio": first.length_ratio,
        },
        "comparison": first.summary(),
        "null": null.summary() if null else None,
        "generation": asdict(configs[0]) | {"num_samples": len(configs)},
        "max_samples": data.max_samples,
        "versions": versions(),
    }
    write_rows(folder / "comparisons.jsonl", first.rows)
    (folder / "null_comparisons.jsonl").unlink(missing_ok=True)
    if null:
        write_rows(folder / "null_comparisons.jsonl", null.rows)
    write_json(folder / "compare.json", summary)
