"""`unveil objectives`: every objective is in the table, in JSON for programs, and can be asked about."""

import json

from unveil.objectives import RECIPES


def test_the_table_names_every_objective(unveil):
    code, printed, err = unveil("objectives")
    assert (code, err) == (0, "")
    assert {line.split()[0] for line in printed.splitlines() if line.strip()} >= set(RECIPES)


def test_json_says_what_a_program_needs(unveil):
    code, printed, _ = unveil("objectives", "--json")
    rows = {row["name"]: row for row in json.loads(printed)}
    assert code == 0
    assert list(rows) == list(RECIPES)
    assert rows["vrpo"]["defaults"] == {"beta": 0.2, "sft_weight": 0.05}
    assert (rows["simpo"]["needs_reference"], rows["rankdpo"]["data"]) == (False, "lists")


def test_one_objective_is_told_with_its_formula_and_paper(unveil):
    code, printed, _ = unveil("objectives", "--objective", "rdpo")
    assert code == 0
    for part in ("2403.00409", "eps = 0.1", "prompt, chosen, rejected", "Noise:"):
        assert part in printed


def test_an_unknown_objective_is_refused_with_the_list(unveil):
    code, _, err = unveil("objectives", "--objective", "ppo")
    assert code == 2
    assert "--objective ppo: unknown; choose one of kto, dpo" in err
