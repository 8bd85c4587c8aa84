"""Every benchmark of the step runs, and its last line is one JSON object with the promised figures."""

import json
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import parts, scaling, step, utilisation
from benchmarks.gradient_error import ratio_with_interval
from benchmarks.measuring import Spread, interleaved, ratios

FIGURES = {
    step: (
        "speedup_equal_draws", "speedup_equal_variance", "memory_ratio_draws_16_to_1",
        "memory_ratio_examples_64_to_16", "memory_ratio_to_checkpointing", "gradient_variance_ratio",
        "margin_variance_ratio",
    ),
    scaling: ("exponent_draws", "exponent_batch", "exponent_length", "exponent_vocabulary"),
    utilisation: ("mfu", "hfu", "matmul_gflops"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", FIGURES, ids=lambda module: module.__name__)
def test_the_last_line_holds_the_figures(benchmark, capsys):
    assert benchmark.main(["--quick", "--threads", str(torch.get_num_threads())]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(math.isfinite(report[name]) for name in FIGURES[benchmark])
    assert report["quick"]
    assert report["machine"].keys() >= {"cpu", "cores", "torch"}


@pytest.mark.slow
def test_every_part_has_its_row(capsys):
    assert parts.main(["--quick", "--threads", str(torch.get_num_threads())]) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[-1])
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:]
    assert rows == list(report["speedups"]) == list(report["peak_mebibytes"])
    assert report["speedups"]["published step"] == 1


def test_parts_of_the_step_can_be_left_out(capsys):
    assert step.main(["--quick", "--skip", "time", "error", "--threads", str(torch.get_num_threads())]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "memory_ratio_to_checkpointing" in report
    assert "speedup_equal_draws" not in report


def test_variants_take_turns():
    calls = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = interleaved(works, 3)
    assert calls == ["b", *"ababab"]
    assert {len(own) for own in seconds.values()} == {3}


def test_ratios_are_taken_inside_a_repeat():
    assert ratios([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == Spread(3.0, 2.0, 4.0)


def test_the_ratio_of_errors_lies_in_its_interval():
    theirs = torch.rand(3, 50).numpy() + 1
    found, low, high = ratio_with_interval(2 * theirs, theirs)
    assert low < found < high
    assert found == pytest.approx(2)


def test_forward_flops_are_those_of_the_matrix_products():
    shape = utilisation.SHAPES["quick"]
    model = utilisation.make_model(shape, torch.device("cpu"), torch.float32, 0)
    hidden = torch.tensor([1, 4, 16])
    # The counter knows the products of the plain kernel, not the fused one.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.full((1, 20), 5), segment_lengths=[12, 8], logits_to_keep=hidden)
    assert counter.get_total_flops() == utilisation.forward_flops(shape, [(12, 2), (8, 1)])
