"""Impossible options are refused by name; the schedule commits every token once."""

import pytest

from unveil.errors import UserError
from unveil.generation import GenerationConfig


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"gen_length": 0}, "--gen_length 0"),
        ({"gen_length": 2.5}, "--gen_length 2.5"),
        ({"gen_length": 30}, "--block_length 32"),
        ({"gen_length": 32, "block_length": 0}, "--block_length 0"),
        ({"steps": 0}, "--steps 0"),
        ({"steps": True}, "--steps True"),
        ({"steps": 129}, "--steps 129"),
        ({"steps": 6}, "--steps 6"),
        ({"temperature": -0.1}, "--temperature -0.1"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"temperature": float("inf")}, "--temperature inf"),
        ({"top_p": 0.0}, "--top_p 0.0"),
        ({"top_p": 1.1}, "--top_p 1.1"),
        ({"cfg_scale": -1.0}, "--cfg_scale -1.0"),
        ({"remasking": "best"}, "--remasking best"),
        ({"top_k": 0}, "--top_k 0"),
        ({"confidence_threshold": 1.1}, "--confidence_threshold 1.1"),
        ({"confidence_factor": 0.0}, "--confidence_factor 0.0"),
        ({"confidence_factor": 1.0, "confidence_threshold": 0.9}, "--confidence_factor 1.0"),
        ({"steps": 64, "confidence_threshold": 0.9}, "--steps 64"),
        ({"steps": 64, "confidence_factor": 1.5}, "--steps 64"),
        ({"remasking": "random", "confidence_threshold": 0.9}, "--confidence_threshold 0.9"),
        ({"remasking": "random", "confidence_factor": 2.0}, "--confidence_factor 2.0"),
        ({"cache": "full"}, "--cache full"),
        ({"cache_interval": 4}, "--cache_interval 4"),
        ({"cache": "dual", "cache_interval": 0}, "--cache_interval 0"),
        ({"eos_rule": "always"}, "--eos_rule always"),
        ({"seed": -1}, "--seed -1"),
        ({"seed": 2**63}, "--seed 9223372036854775808"),
    ],
)
def test_an_impossible_option_is_refused_by_its_flag(options, flag):
    with pytest.raises(UserError) as error:
        GenerationConfig(**options)
    assert str(error.value).startswith(flag + ":")
    assert "; give " in str(error.value)
    assert "\n" not in str(error.value)


def test_the_remainder_goes_to_the_first_steps():
    assert GenerationConfig(gen_length=10, block_length=None, steps=4).commits_per_step == [3, 3, 2, 2]
    assert GenerationConfig(gen_length=12, block_length=6, steps=8).commits_per_step == [2, 2, 1, 1]


def test_steps_default_to_one_per_token():
    config = GenerationConfig(gen_length=6, block_length=3)
    assert config.num_steps == 6
    assert config.commits_per_step == [1, 1, 1]


def test_a_cache_is_renewed_at_the_start_of_a_block_and_at_its_interval():
    def renewing(**more):
        return [step for step in range(8) if GenerationConfig(gen_length=16, block_length=8, **more).refreshes(step)]

    assert renewing() == list(range(8))
    assert renewing(cache="prefix") == [0]
    assert renewing(cache="dual", cache_interval=3) == [0, 3, 6]
    assert renewing(cache="dual", cache_interval=1) == list(range(8))


@pytest.mark.parametrize("steps", range(1, 25))
def test_the_schedule_commits_every_token_once(steps):
    for blocks in (1, 2, 3, 4):
        if steps % blocks:
            continue
        config = GenerationConfig(gen_length=24, block_length=24 // blocks, steps=steps)
        assert len(config.commits_per_step) * blocks == steps
        assert sum(config.commits_per_step) * blocks == 24
        assert min(config.commits_per_step) >= 1
