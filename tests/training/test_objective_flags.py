"""From flags to objectives: every argument that cannot be meant is one clear line, and YAML says the same."""

import pytest

from unveil.errors import UserError
from unveil.objectives import Jackknife, bco, beta_dpo, cdpo, dpo, fdpo, flex_dpo, ipo, kto, sft, simpo, vrpo
from unveil.training import PreferenceConfig, objective_of, recipe_of


def objective(name, *arguments, **flags):
    given = flags.pop("objective_args", list(arguments) or None)
    return objective_of(PreferenceConfig(output_dir="x", use_cpu=True, objective=name, objective_args=given, **flags))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (objective("cdpo", "eps=0.2", beta=0.3), cdpo(0.3, 0.2)),
        (objective("dpo", "pairs=best_worst", "beta=0.5"), dpo(0.5, "best_worst")),
        (objective("fdpo", "divergence=alpha", "alpha=0.3"), fdpo("alpha", alpha=0.3)),
        (objective("ipo", "per_token=false"), ipo(per_token=False)),
        (objective("ipo", objective_args={"per_token": True}), ipo()),
        (objective("beta_dpo", "seed=7"), beta_dpo(seed=7)),
        (objective("beta_dpo", objective_args={"seed": 7, "keep": 1}), beta_dpo(seed=7, keep=1.0)),
        (objective("bco"), bco()),
        (objective("simpo"), simpo()),
        (objective("kto", baseline="trl_kl", desirable_weight=2.0), kto(desirable_weight=2.0, baseline="trl_kl")),
        (objective("kto", "baseline=zero"), kto(baseline="zero")),
    ],
)
def test_arguments_reach_the_objective_in_the_type_of_its_signature(given, expected):
    assert given == expected


def test_sft_weight_is_the_argument_of_objectives_that_have_one_and_a_term_for_the_others():
    assert objective("vrpo", sft_weight=0.3) == vrpo(sft_weight=0.3)
    assert objective("vrpo") == vrpo()
    assert objective("flex_dpo", sft_weight=0.3) == flex_dpo(sft_weight=0.3)
    assert objective("dpo", sft_weight=0.3) == dpo() + 0.3 * sft()
    assert objective("dpo", sft_weight=0.0) == dpo()


def test_jackknife_takes_the_whole_objective():
    found = objective("dpo", debias="jackknife", sft_weight=0.1, draw_design="iid")
    assert isinstance(found, Jackknife)
    assert found.objective == dpo() + 0.1 * sft()


@pytest.mark.parametrize(
    ("name", "arguments", "flags", "told"),
    [
        (
            "cdpo",
            ["epsilon=0.1"],
            {},
            "--objective_args epsilon: --objective cdpo has no such argument; it takes beta, eps",
        ),
        ("cdpo", ["eps=0.1", "eps=0.2"], {}, "--objective_args eps: is given twice"),
        ("cdpo", ["eps"], {}, "--objective_args eps: write name=value, for example eps=0.1"),
        ("cdpo", ["=0.1"], {}, "--objective_args =0.1: write name=value, for example eps=0.1"),
        ("cdpo", ["eps="], {}, "--objective_args eps=: write name=value, for example eps=0.1"),
        ("cdpo", ["eps=high"], {}, "--objective_args eps=high: must be a number"),
        ("beta_dpo", ["seed=0.5"], {}, "--objective_args seed=0.5: must be a whole number"),
        ("beta_dpo", {"seed": 0.5}, {}, "--objective_args seed=0.5: must be a whole number"),
        ("ipo", ["per_token=maybe"], {}, "--objective_args per_token=maybe: must be true or false"),
        ("dpo", ["pairs=some"], {}, "--objective_args pairs=some: must be one of all, best_worst, best_versus_rest"),
        ("cdpo", ["eps=0.7"], {}, "--objective_args eps=0.7: must be below 0.5; at one half the labels say nothing"),
        ("cdpo", {"eps": True}, {}, "--objective_args eps=True: must be a number"),
        ("cdpo", {"eps": None}, {}, "--objective_args eps=None: must be a number"),
        ("cdpo", ["eps=nan"], {}, "--objective_args eps=nan: must be "),
        ("cdpo", ["beta=inf"], {}, "--objective_args beta=inf: must be above 0 and finite"),
        ("dpo", None, {"baseline": "kl"}, "--baseline kl: --objective dpo has no baseline; it takes beta, pairs"),
        ("dpo", None, {"desirable_weight": 2.0}, "--desirable_weight 2.0: --objective dpo has no desirable_weight"),
        ("sft", None, {"beta": 0.1}, "--beta 0.1: --objective sft has no beta; it takes no arguments"),
        ("dpo", ["beta=0.2"], {"beta": 0.1}, "--beta: is given a second time in --objective_args; give it once"),
        ("vrpo", ["sft_weight=0.2"], {"sft_weight": 0.1}, "--sft_weight: is given a second time in --objective_args"),
        ("kto", None, {"baseline": "mean"}, "--baseline mean: "),
        ("dpo", None, {"beta": -1.0}, "beta"),
        ("ppo", None, {}, "--objective ppo: unknown; choose one of kto, dpo, "),
    ],
)
def test_an_argument_that_cannot_be_meant_is_told_in_one_line(name, arguments, flags, told):
    with pytest.raises(UserError) as error:
        objective(name, objective_args=arguments, **flags)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_recipes_are_found_by_their_name_on_the_command_line():
    assert recipe_of("rankdpo").shape == "lists"
