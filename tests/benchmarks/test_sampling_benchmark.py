"""The sampling benchmark: its rules, and that it runs from end to end."""

import json

import pytest
import torch

from benchmarks import sampling
from unveil.judging import WinRate


def rate(value, high):
    return WinRate(value, 2 * value - high, high, 0, 0, 0, 100)


def test_not_worse_needs_the_whole_interval_above_the_margin():
    assert sampling.not_worse(rate(0.49, 0.52))
    assert not sampling.not_worse(rate(0.48, 0.52))
    assert not sampling.not_worse(rate(0.5, 0.9))  # a wide interval shows nothing


def test_positions_that_differ_are_counted_over_the_longer_answer():
    assert sampling.differing([[1, 2, 3], []], [[1, 5, 3], []]) == pytest.approx(1 / 3)
    assert sampling.differing([[1, 2]], [[1, 2, 3, 4]]) == 0.5


@pytest.mark.parametrize("quick", [True, False])
def test_every_family_begins_with_one_token_per_forward(quick):
    found = sampling.samplers(quick)
    assert len({sampler.name for sampler in found}) == len(found)
    for family in ("random", "confidence"):
        first = next(sampler for sampler in found if sampler.family == family)
        assert first.config.num_steps == first.config.gen_length
        assert not first.config.by_confidence


@pytest.mark.slow
def test_the_last_line_holds_the_figures(tmp_path, capsys):
    flags = ["--quick", "--num_prompts", "6", "--throughput_prompts", "3", "--output_dir", str(tmp_path)]
    assert sampling.main([*flags, "--threads", str(torch.get_num_threads())]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report == json.loads((tmp_path / "results.json").read_text())
    assert report["forwards_ratio_equal_quality"] >= 1
    assert report["batched_over_single"] > 0
    assert (tmp_path / sampling.FIGURE).read_bytes().startswith(b"\x89PNG")
