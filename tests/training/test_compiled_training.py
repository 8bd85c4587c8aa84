"""`--torch_compile` changes the kernels and nothing else: train, sft, adapters, evaluation, checkpoints."""

import copy

import pytest
import torch
from datasets import Dataset
from one_pass import make_groups

from unveil.training import SFTConfig, SFTTrainer, add_adapters

# The compiler looks at gradients and at its own old interfaces.
pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


@pytest.fixture(autouse=True)
def fresh_compiler():
    """No graph of another test is met."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(backend: str | None) -> dict:
    return {"torch_compile": True, "torch_compile_backend": backend} if backend else {}


def trained(trainer_of, model, folder, backend):
    """Weights and logs of two steps with an evaluation and a checkpoint after each, and what was saved."""
    trainer = trainer_of(
        make_groups(4), copy.deepcopy(model), eval_rows=make_groups(3, seed=2), objective="dpo", num_draws=2,
        per_device_train_batch_size=2, max_steps=2, eval_strategy="steps", eval_steps=1, save_strategy="steps",
        save_steps=1, learning_rate=1e-2, warmup_steps=0, output_dir=str(folder), **compiled(backend),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    names = {"loss", "eval_loss", "rewards/margins", "eval_rewards/accuracies", "total_flos", "num_tokens"}
    logs = [{k: v for k, v in line.items() if k in names} for line in trainer.state.log_history]
    saved = sorted(path.name for path in folder.rglob("*.safetensors"))
    return torch.cat([p.detach().flatten() for p in trainer.policy.parameters()]), logs, saved


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("adapters", [False, True])
def test_a_compiled_run_is_the_run_without_compiler(trainer_of, tiny_llada, tmp_path, adapters, backend):
    model = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    model = add_adapters(model, r=2, alpha=4) if adapters else model
    plain = trained(trainer_of, model, tmp_path / "plain", None)
    found = trained(trainer_of, model, tmp_path / "compiled", backend)
    torch.testing.assert_close(found[0], plain[0], rtol=1e-6, atol=1e-8)
    for one, other in zip(plain[1], found[1], strict=True):
        assert other == pytest.approx(one, rel=1e-6)
    assert found[2] == plain[2]


def test_compiled_supervised_training_runs(tiny_llada, rows, tmp_path):
    losses = []
    for backend in (None, "eager"):
        arguments = SFTConfig(
            output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
            logging_steps=1, max_steps=2, per_device_train_batch_size=4, dataloader_pin_memory=False,
            **compiled(backend),
        )  # fmt: skip
        data = Dataset.from_list(rows(8, labels=False))
        torch.manual_seed(0)
        trainer = SFTTrainer(
            tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL), arguments, train_dataset=data, eval_dataset=data
        )
        trainer.train()
        losses.append([trainer.evaluate()["eval_loss"], *(x["loss"] for x in trainer.state.log_history if "loss" in x)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
