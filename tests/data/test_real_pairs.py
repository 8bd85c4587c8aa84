"""Real preference data (749 prompts of kto-mix-14k), when it lies beside the repository."""

from pathlib import Path

import pytest
from datasets import Dataset

from unveil.data import class_balance, load_rows, tokenize_responses, unpaired_rows
from unveil.errors import UserInputWarning

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "kto_mix_test"
pytestmark = pytest.mark.skipif(not (FOLDER / "chosen.jsonl").is_file(), reason="kto_mix_test is not here")


def test_real_pairs_become_unpaired_responses(toy_tokenizer):
    chosen, rejected = load_rows(FOLDER, split="chosen"), load_rows(FOLDER / "rejected.jsonl")
    assert chosen["prompt"][:] == rejected["prompt"][:]
    pairs = Dataset.from_dict(
        {"prompt": chosen["prompt"][:], "chosen": chosen["completion"][:], "rejected": rejected["completion"][:]}
    )
    with pytest.warns(UserInputWarning, match=r"the same in 1 of 749 pairs \(row 213\)"):
        rows = unpaired_rows(pairs, "kto_mix_test")
    assert rows["example_id"][:] == list(range(2 * 749))

    def fits(prompt: list[dict[str, str]]) -> bool:
        return len(toy_tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]) < 4096

    assert rows[2 * 213]["completion"] == rows[2 * 213 + 1]["completion"]

    with pytest.warns(UserInputWarning, match="rows cannot be used|are cut and get no EOS"):
        responses = tokenize_responses(
            rows, toy_tokenizer, max_length=4096, mask_token_id=1, source="kto_mix_test", on_bad_rows="drop"
        )
    fitting = [2 * row + half for row, prompt in enumerate(chosen["prompt"]) if fits(prompt) for half in (0, 1)]
    assert responses["example_id"][:] == fitting
    balance = class_balance(responses)
    assert balance.n_desirable == balance.n_undesirable > 600
    for row in responses:
        source_row = chosen if row["label"] else rejected
        answer = source_row[row["example_id"] // 2]["completion"][0]["content"]
        text = toy_tokenizer.decode(row["completion_ids"])
        if row["truncated"]:
            assert answer.encode().startswith(text.encode().rstrip("\ufffd".encode()))
        else:
            assert text == answer + "<|endoftext|>"
