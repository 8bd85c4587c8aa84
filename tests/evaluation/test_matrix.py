"""A matrix: cells that are kept, declared anew, or fail by themselves, and a table that hides nothing."""

import json
import math
import statistics
from pathlib import Path

import pytest
import yaml

from unveil.cli.matrix_page import heat_map, write_matrix
from unveil.errors import UserError
from unveil.evaluation.grid import WIN_RATE, Cell, read_grid
from unveil.evaluation.grid_run import in_process_of_its_own, run_grid
from unveil.evaluation.grid_steps import declaration, steps_of, write_data
from unveil.evaluation.grid_table import Entry, markdown, table_of, tidy


@pytest.fixture
def declared(tmp_path):
    """A matrix of two methods and the start, two sizes, two seeds, one task; as a dictionary to change."""
    rows = [{"prompt": f"say {i}:", "completion": f" word {i}", "label": i % 2 == 0} for i in range(12)]
    (tmp_path / "thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "starts": {"base": {"model_name_or_path": "start"}},
        "methods": {"none": None, "kto": {"objective": "kto"}, "dpo": {"objective": "dpo"}},
        "sizes": [8, "all"],
        "seeds": [0, 1],
        "tasks": ["choose"],
        "train": {"dataset_name": "thumbs.jsonl", "max_steps": 1},
        "evaluate": {"num_draws": 4},
    }


@pytest.fixture
def grid_of(tmp_path):
    def read(declared):
        (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
        return read_grid(tmp_path / "matrix.yaml")

    return read


class Package:
    """Stands for the commands: writes what they would write; training with an objective in `broken` fails."""

    def __init__(self, broken=()):
        self.broken, self.ran = broken, []

    def __call__(self, words, log):
        flags = dict(zip(words[1::2], words[2::2]))
        self.ran.append((words[0], flags))
        folder = Path(flags["--output_dir"])
        if flags.get("--objective") in self.broken:
            log.write_text("Traceback ...\nRuntimeError: out of memory\n")
            return 1
        log.write_text("fine\n")
        folder.mkdir(parents=True, exist_ok=True)
        if words[0] == "evaluate":
            value = 0.5 + 0.1 * int(flags["--seed"]) + 0.01 * len(flags["--model_name_or_path"].split("kto"))
            metric = {"metric": "acc", "value": value, "standard_error": 0.05, "higher_is_better": True}
            found = {"tasks": {"choose": {"metrics": [metric]}}, "groups": {}}
            (folder / "results.json").write_text(json.dumps(found))
        if words[0] == "compare":
            (folder / "compare.json").write_text(json.dumps({"results": {"adjusted_win_rate": 0.6}}))
        return 0


def test_cells_are_the_product_and_a_start_has_no_size(declared, grid_of):
    cells = grid_of(declared).cells()
    assert len(cells) == len(set(cells)) == 2 + 2 * 2 * 2
    assert [cell.seed for cell in cells if cell.method == "none"] == [0, 1]
    assert {cell.size for cell in cells if cell.method == "kto"} == {8, None}


def test_a_method_is_trained_and_then_measured(declared, grid_of, tmp_path):
    grid = grid_of(declared | {"compare": {"dataset_name": "prompts.jsonl", "judge": "film-ratings"}})
    train, evaluate, compare = steps_of(grid, Cell("base", "kto", None, 1), tmp_path / "out")
    assert train.command[0] == "train"
    assert f"--dataset_name {tmp_path / 'thumbs.jsonl'}" in " ".join(train.command)
    assert "--objective kto" in " ".join(train.command)
    assert "--model_name_or_path start --seed 1" in " ".join(train.command)
    assert evaluate.command[:3] == ("evaluate", "--model_name_or_path", str(train.output))
    assert compare.command[:5] == ("compare", "--model_name_or_path", str(train.output), "--against", "start")
    [alone] = steps_of(grid, Cell("base", "none", None, 0), tmp_path / "out")
    assert alone.command[:3] == ("evaluate", "--model_name_or_path", "start")


def test_more_rows_hold_fewer_rows_and_seeds_choose_others(declared, grid_of, tmp_path):
    grid = grid_of(declared | {"sizes": [4, 8]})

    def rows(size, seed):
        step = steps_of(grid, Cell("base", "kto", size, seed), tmp_path / "out")[0]
        write_data(step)
        lines = Path(step.rows[3]).read_text().splitlines()
        assert len(lines) == size
        return set(lines)

    assert rows(4, 0) < rows(8, 0)
    assert rows(4, 0) != rows(4, 1)
    with pytest.raises(UserError, match="20 rows are asked for"):
        write_data(steps_of(grid_of(declared | {"sizes": [20]}), Cell("base", "kto", 20, 0), tmp_path / "out")[0])


def test_what_is_done_is_not_done_again(declared, grid_of, tmp_path):
    grid, package = grid_of(declared), Package()
    first = run_grid(grid, tmp_path / "out", package)
    assert len(package.ran) == 2 + 8 * 2
    again = Package()
    second = run_grid(grid, tmp_path / "out", again)
    assert again.ran == []
    assert table_of(grid, second, tmp_path / "out") == table_of(grid, first, tmp_path / "out")


def test_a_cell_that_is_declared_anew_is_run_anew_and_others_are_not(declared, grid_of, tmp_path):
    run_grid(grid_of(declared), tmp_path / "out", Package())
    declared["methods"]["kto"] = {"objective": "kto", "beta": 0.5}
    package = Package()
    run_grid(grid_of(declared), tmp_path / "out", package)
    assert [name for name, _ in package.ran] == ["train", "evaluate"] * 4
    assert all("kto" in flags["--output_dir"] for _, flags in package.ran)
    declared["evaluate"] = {"num_draws": 8}
    package = Package()
    run_grid(grid_of(declared), tmp_path / "out", package)
    assert [name for name, _ in package.ran] == ["evaluate"] * 10


def test_changed_data_is_a_changed_declaration(declared, grid_of, tmp_path):
    run_grid(grid_of(declared), tmp_path / "out", Package())
    with open(tmp_path / "thumbs.jsonl", "a") as file:
        file.write('{"prompt": "a", "completion": "b", "label": true}\n')
    package = Package()
    run_grid(grid_of(declared), tmp_path / "out", package)
    assert len(package.ran) == 16  # all but the start's own


def test_the_output_folder_may_move(declared, grid_of, tmp_path):
    grid = grid_of(declared)
    names = [
        [declaration(step, tmp_path / out, None) for step in steps_of(grid, grid.cells()[2], tmp_path / out)]
        for out in ("here", "there")
    ]
    assert names[0] == names[1]


def test_a_failure_costs_its_cell_is_shown_and_is_tried_again(declared, grid_of, tmp_path):
    grid = grid_of(declared)
    told = []
    records = run_grid(grid, tmp_path / "out", Package(broken=("dpo",)), told.append)
    table = table_of(grid, records, tmp_path / "out")
    assert table[("base", "dpo", "8")]["choose"].describe() == "failed"
    assert table[("base", "kto", "8")]["choose"].describe().endswith("(2 seeds)")
    assert sum("RuntimeError: out of memory" in line for line in told) == 4
    write_matrix(grid, records, table, tmp_path / "out")
    for name in ("matrix.md", "matrix.html"):
        assert "out of memory" in (tmp_path / "out" / name).read_text()
    found = json.loads((tmp_path / "out" / "matrix.json").read_text())
    assert len(found["failures"]) == 8  # four trainings, and what was to build on them
    package = Package()
    records = run_grid(grid, tmp_path / "out", package)
    assert [flags.get("--objective") for name, flags in package.ran if name == "train"] == ["dpo"] * 4
    assert table_of(grid, records, tmp_path / "out")[("base", "dpo", "8")]["choose"].failed == 0


def test_an_interrupted_matrix_goes_on(declared, grid_of, tmp_path):
    class Interrupted(Package):
        def __call__(self, words, log):
            if len(self.ran) == 5:
                raise KeyboardInterrupt
            return super().__call__(words, log)

    grid = grid_of(declared)
    with pytest.raises(KeyboardInterrupt):
        run_grid(grid, tmp_path / "out", Interrupted())
    package = Package()
    records = run_grid(grid, tmp_path / "out", package)
    assert len(package.ran) == 18 - 5
    whole = run_grid(grid, tmp_path / "whole", Package())
    one, two = (tidy(table_of(grid, r, tmp_path / out)) for r, out in ((records, "out"), (whole, "whole")))
    assert [row["seeds"] for row in one] == [row["seeds"] for row in two] == [2] * 5


def test_intervals_are_student_s_over_seeds():
    entry = Entry((0.5, 0.6, 0.7))
    low, high = entry.interval()
    assert (low + high) / 2 == pytest.approx(0.6)
    assert high - 0.6 == pytest.approx(4.302653 * statistics.stdev(entry.values) / math.sqrt(3), rel=1e-6)
    assert entry.describe() == "0.600 [0.352, 0.848] (3 seeds)"
    assert Entry((0.5, 0.5)).describe() == "0.500 (2 seeds, all alike)"
    assert Entry((0.5,), error=0.02).describe() == "0.500 (1 seed ± 0.020 over documents)"
    assert Entry((0.5, 0.7), failed=1, missing=2).describe().endswith("(2 seeds), 1 failed, 2 missing")
    assert [e.describe() for e in (Entry(()), Entry((), failed=1), Entry((), missing=1))] == ["-", "failed", "missing"]


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    """2,000 experiments of four seeds."""
    import numpy as np

    values = np.random.default_rng(0).normal(0.6, 0.1, size=(2000, 4))
    spans = [Entry(tuple(row)).interval() for row in values.tolist()]
    assert np.mean([low <= 0.6 <= high for low, high in spans]) == pytest.approx(0.95, abs=0.015)


def test_win_rates_are_a_column_that_the_start_lacks(declared, grid_of, tmp_path):
    grid = grid_of(declared | {"compare": {"dataset_name": "prompts.jsonl", "judge": "film-ratings"}})
    table = table_of(grid, run_grid(grid, tmp_path / "out", Package()), tmp_path / "out")
    assert table[("base", "kto", "all")][WIN_RATE].mean == pytest.approx(0.6)
    assert table[("base", "none", "all")][WIN_RATE].describe() == "-"
    assert "| kto | all |" in markdown(table, grid.columns)
    assert heat_map(table, grid.columns).startswith(b"\x89PNG")


def test_a_crash_of_a_process_is_an_exit_code(tmp_path):
    assert in_process_of_its_own(["no-such-command"], tmp_path / "log") == 2
    assert "no command 'no-such-command'" in (tmp_path / "log").read_text()


BAD = {
    "no file": (None, "cannot be read"),
    "not YAML": ("a: [", "is not valid YAML"),
    "unknown key": ({"method": {}}, "unknown key method"),
    "no tasks": ({"tasks": None}, "tasks is missing or empty"),
    "start without model": ({"starts": {"base": {"dtype": "float32"}}}, "starts.base names no model_name_or_path"),
    "odd name": ({"methods": {"a/b": None}}, "methods.a/b: names are letters"),
    "size": ({"sizes": [0]}, "sizes: 0 is not a whole number of at least 1"),
    "seed": ({"seeds": ["one"]}, "seeds: 'one' is not a whole number"),
    "seeds twice": ({"seeds": [1, 1]}, "seeds: give a list without repeats"),
    "flags": ({"train": ["max_steps"]}, "train must hold `flag: value` lines"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_declarations_are_one_line_and_exit_2(case, declared, unveil, tmp_path):
    change, message = BAD[case]
    file = tmp_path / "matrix.yaml"
    if change is not None:
        file.write_text(change if isinstance(change, str) else yaml.safe_dump(declared | change))
    code, _, err = unveil("matrix", "--config", file, "--output_dir", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err


def test_dry_run_prints_the_commands_and_runs_nothing(declared, unveil, grid_of, tmp_path):
    grid_of(declared)
    code, out, _ = unveil("matrix", "--config", tmp_path / "matrix.yaml", "--output_dir", tmp_path / "out", "--dry_run")
    assert code == 0
    assert out.count("unveil train") == 8
    assert out.count("unveil evaluate") == 10
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", [(), ("--dry_run",)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"kto": {"objectve": "kto"}}}, "methods.kto: --objectve: unknown flag (close to --objective); "),
        ({"methods": {"kto": {"max_steps": "few"}}}, "methods.kto: argument --max_steps"),
        ({"train": {"dataset_name": "thumbs.jsonl", "max_step": 1}}, "yaml: train: --max_step: unknown flag"),
        ({"starts": {"a": {"model_name_or_path": "a", "dtypo": "x"}}}, "starts.a: --dtypo: unknown flag"),
        ({"evaluate": {"num_draw": 4}}, "yaml: evaluate: --num_draw: unknown flag (close to --num_draws)"),
        ({"tasks": {"choose": {"limit": -1}}}, "tasks.choose: --limit -1.0: give a number of documents"),
        ({"tasks": {"choose": {"limits": 1}}}, "tasks.choose: --limits: unknown flag (close to --limit)"),
        ({"compare": {"dataset_name": "x", "judges": "exact"}}, "yaml: compare: --judges: unknown flag (close to --ju"),
        ({"compare": {"dataset_name": "x"}}, "yaml: compare: --judge: is missing; give human_ratings"),
        ({"train": {}, "sizes": ["all"]}, "methods.kto: --dataset_name: is missing; give a hub name or a file"),
    ],
)
def test_wrong_flags_are_told_with_their_place_before_anything_runs(
    declared, unveil, grid_of, tmp_path, monkeypatch, flag, change, message
):
    from unveil.evaluation import grid_run

    package = Package()
    monkeypatch.setattr(grid_run.run_grid, "__defaults__", (package, lambda line: None))
    grid_of(declared | change)
    file = tmp_path / "matrix.yaml"
    code, out, err = unveil("matrix", "--config", file, "--output_dir", tmp_path / "out", *flag)
    assert (code, out, err.count("\n"), package.ran) == (2, "", 1, [])
    assert f"--config {file}: " in err
    assert message in err
    assert not (tmp_path / "out").exists()


def test_equal_flags_are_checked_once_whatever_the_number_of_cells(declared, unveil, grid_of, tmp_path, monkeypatch):
    from unveil.cli.parser import CommandLine

    checked, real = [], CommandLine.check
    monkeypatch.setattr(CommandLine, "check", lambda *given: (checked.append(given), real(*given))[1])
    grid_of(declared | {"seeds": list(range(20))})
    assert unveil("matrix", "--config", tmp_path / "matrix.yaml", "--output_dir", tmp_path, "--dry_run").code == 0
    assert len(checked) == 6 + 2 + 1  # places with flags of their own; a training per method; a task


def test_missing_flags_of_the_command_are_named(unveil, tmp_path):
    assert "--matrix: is missing; give a YAML file (also as --config)" in unveil("matrix").err
    assert "--output_dir: is missing" in unveil("matrix", "--config", tmp_path / "m.yaml").err


def test_real_commands_fill_a_matrix(unveil, base, task_folder, declared, tmp_path, monkeypatch):
    """Training, evaluation and the table with the package's own commands, in this process; then nothing is left."""
    pytest.importorskip("lm_eval")
    from unveil.cli.main import main
    from unveil.evaluation import grid_run

    def here(words, log):
        log.write_text(" ".join(words))
        return main(list(words))

    declared |= {
        "starts": {"base": {"model_name_or_path": base}},
        "methods": {"none": None, "kto": {"objective": "kto"}},
        "sizes": [8],
        "tasks": {"choose": {"include_path": task_folder, "limit": 4}},
        "train": {
            "dataset_name": "thumbs.jsonl", "max_steps": 1, "per_device_train_batch_size": 8, "num_draws": 2,
            "use_cpu": True, "learning_rate": 0.01, "allow_one_label": True,
        },
        "compare": {"dataset_name": "thumbs.jsonl", "judge": "regex:a", "gen_length": 4, "device": "cpu"},
    }  # fmt: skip
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
    monkeypatch.setattr(grid_run.run_grid, "__defaults__", (here, lambda line: None))
    words = ("matrix", "--config", tmp_path / "matrix.yaml", "--output_dir", tmp_path / "out")
    code, out, _ = unveil(*words)
    assert code == 0, out
    table = json.loads((tmp_path / "out" / "matrix.json").read_text())["table"]
    assert [(row["method"], row["size"], row["seeds"], row["metric"]) for row in table] == [
        ("none", "all", 2, "acc"), ("none", "all", 0, ""), ("kto", "8", 2, "acc"), ("kto", "8", 2, "win rate"),
    ]  # fmt: skip
    assert "| base | none | all | " in out
    assert "missing" not in out
    assert (tmp_path / "out" / "matrix.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = unveil(*words)
    assert out.count("done before") == 4
