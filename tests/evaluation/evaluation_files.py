"""Task files with their data beside them, for a folder that is given as --include_path."""

import json
from pathlib import Path

import yaml

OPTIONS = [[" a", " b"], [" red", " green"], [" warm weather", " cold snow"], [" one two three", " four five"]]
QUESTIONS = [
    {"question": f"question {i}:", "options": OPTIONS[i % len(OPTIONS)], "answer": (i // 2) % 2} for i in range(6)
]
STORIES = [{"story": f"story number {i} begins", "end": f" and ends {i}."} for i in range(4)]
TEXTS = [{"text": "once upon a time there was a text " + "longer and longer " * 8 * i} for i in range(3)]

TASKS = {
    "choose": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "letters": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["A", "B"],
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    },
    "continue": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{story}}",
        "doc_to_target": "{{end}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "texts": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}],
    },
    "write": {
        "output_type": "generate_until",
        "doc_to_text": "{{story}}",
        "doc_to_target": "{{end}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}
_ROWS = {"choose": QUESTIONS, "letters": QUESTIONS, "continue": STORIES, "write": STORIES, "texts": TEXTS}


def write_tasks(folder: Path) -> str:
    """The tasks and their data, as relative paths; returns the folder as a flag takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, task in TASKS.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _ROWS[name]))
        shared = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
            "test_split": "test",
            "fewshot_split": "test",
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(shared | task))
    return str(folder)
