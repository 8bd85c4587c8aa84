"""A recorded trajectory rebuilds every state, survives a file, and changes no answer."""

import pytest
from table_denoiser import TableDenoiser

from unveil.errors import UserError
from unveil.generation import (
    GenerationConfig,
    Recorder,
    generate,
    read_trajectories,
    write_trajectories,
)

PROMPTS = [[0, 1], [2], [1, 1, 1, 0], [], [2, 2]]
CONFIGS = [
    GenerationConfig(gen_length=6, block_length=3, steps=4, temperature=1.0, remasking="random"),
    GenerationConfig(gen_length=6, block_length=3, temperature=1.0, confidence_threshold=0.5),
    GenerationConfig(gen_length=6, block_length=None, temperature=1.0, remasking="entropy", early_exit=False),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_state_is_rebuilt_and_nothing_is_changed_by_watching(config):
    denoiser = TableDenoiser(vocab=3, length=6)
    plain = generate(denoiser, PROMPTS, config, 2, tokens_per_batch=10**6)
    recorder = Recorder(PROMPTS, config, denoiser.mask_token_id)
    denoiser.calls.clear()
    assert generate(denoiser, PROMPTS, config, 2, tokens_per_batch=1, observer=recorder) == plain
    seen = [canvas[0].tolist() for canvas, _ in denoiser.calls]  # one prompt after another, shortest first
    paths = sorted(recorder.trajectories, key=lambda path: len(path.prompt_ids))
    assert seen == [state for path in paths for state in path.states()[:-1]]
    for path, answer in zip(recorder.trajectories, plain, strict=True):
        last = path.state(len(path.steps))
        assert last[: len(answer)] == answer
        assert answer == last or last[len(answer)] == 2
        assert [p for p, at in enumerate(path.revealed_at()) if at is None] == [
            p for p, token in enumerate(last) if token == denoiser.mask_token_id
        ]
        assert all(0 < c <= 1 for step in path.steps for c in step.confidences)
    with pytest.raises(IndexError, match="step 99"):
        path.state(99)


def test_the_probability_of_a_random_order_is_recorded():
    denoiser = TableDenoiser(vocab=3, length=6)
    config = GenerationConfig(gen_length=6, block_length=None, temperature=1.0, remasking="random")
    recorder = Recorder(PROMPTS, config, denoiser.mask_token_id)
    generate(denoiser, PROMPTS, config, None, observer=recorder)
    for prompt, path in zip(PROMPTS, recorder.trajectories, strict=True):
        for number, reveal in enumerate(path.steps):
            law = denoiser.probabilities(path.state(number), prompt)
            assert reveal.confidences == [pytest.approx(float(law[reveal.positions[0], reveal.tokens[0]]))]


def test_a_file_gives_back_what_was_written(tmp_path):
    denoiser = TableDenoiser(vocab=3, length=6)
    recorder = Recorder(PROMPTS, CONFIGS[0], denoiser.mask_token_id, indices=[7, 3, 5, 1, 0])
    generate(denoiser, PROMPTS, CONFIGS[0], 2, indices=[7, 3, 5, 1, 0], observer=recorder)
    write_trajectories(tmp_path / "paths.jsonl", recorder.trajectories)
    assert read_trajectories(tmp_path / "paths.jsonl") == recorder.trajectories
    (tmp_path / "bad.jsonl").write_text((tmp_path / "paths.jsonl").read_text() + '{"index": 1}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl: line 6 is no trajectory"):
        read_trajectories(tmp_path / "bad.jsonl")
