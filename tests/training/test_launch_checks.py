"""A launch that gives less than was asked for is refused before anything is loaded."""

import pytest

from unveil.errors import UserError
from unveil.training import PreferenceConfig, SFTConfig
from unveil.training.launch_checks import check_launch


@pytest.fixture
def quiet(monkeypatch):
    """No trace of a launcher, whatever runs the tests; what transformers sets is taken back."""
    for name in ("WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def made(tmp_path, kind=PreferenceConfig, **more):
    return kind(output_dir=str(tmp_path), use_cpu=True, report_to="none", **more)


@pytest.mark.parametrize("kind", [PreferenceConfig, SFTConfig])
def test_accelerate_launch_on_the_cpu_with_several_processes_is_refused_since_it_starts_one(quiet, tmp_path, kind):
    quiet.setenv("ACCELERATE_MIXED_PRECISION", "no")
    made(tmp_path, kind)  # accelerate launch --cpu --num_processes 1
    quiet.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match=r"^accelerate launch --cpu: starts one process.*torchrun") as told:
        made(tmp_path, kind)
    assert "\n" not in str(told.value)
    assert "traceback follows unless it is given --quiet" in str(told.value), "which is after our line"


def test_processes_that_do_not_know_one_another_are_refused(quiet, tmp_path):
    with pytest.raises(UserError, match=r"^2 processes were started, and each would train by itself"):
        check_launch(made(tmp_path), {"WORLD_SIZE": "2"})


@pytest.mark.parametrize("asked", ["flag", "launcher"])
def test_sharding_that_would_not_happen_is_refused(quiet, tmp_path, asked):
    if asked == "launcher":
        quiet.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"^--fsdp: .* here 1 process on the CPU runs, so nothing would be sharded"):
        made(tmp_path, **({"fsdp": "full_shard"} if asked == "flag" else {}))


@pytest.mark.parametrize("name", ["split_batches", "dispatch_batches"])
def test_another_way_to_share_out_the_rows_is_refused(quiet, tmp_path, name):
    with pytest.raises(UserError, match=f"--accelerator_config {name}"):
        made(tmp_path, accelerator_config={name: True})
