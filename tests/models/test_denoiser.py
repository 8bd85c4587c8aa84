"""`Denoiser` gives the same logits whatever wraps the model and whether or not it takes packed input."""

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing import assert_close
from transformers import BertConfig, BertForMaskedLM

from unveil.errors import UserError
from unveil.models import LORA_TARGETS, Denoiser

LENGTHS = [5, 8, 5, 5, 3]
IDS = torch.randint(2, 260, (1, 26), generator=torch.Generator().manual_seed(3))
INDEX = torch.tensor([25, 0, 4, 6, 12, 13, 22])


@pytest.fixture
def bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40
    )
    return BertForMaskedLM(config).double().eval()


def one_by_one(model) -> torch.Tensor:
    return torch.cat([model(input_ids=row[None]).logits[0] for row in IDS[0].split(LENGTHS)])


def test_what_it_says_of_a_llada(tiny_llada):
    denoiser = Denoiser(tiny_llada(embedding_size=264))
    assert denoiser.packs
    assert (denoiser.mask_token_id, denoiser.logit_shift, denoiser.max_length) == (1, 0, 256)
    assert denoiser.vocab_size == 264
    assert denoiser.device == torch.device("cpu")


def test_logits_at_a_packing_model(tiny_llada):
    model = tiny_llada(dtype=torch.float64)
    found = Denoiser(model).logits_at(IDS, LENGTHS, INDEX)
    assert_close(found, one_by_one(model)[INDEX], rtol=1e-10, atol=1e-10)


def test_logits_at_a_model_that_does_not_pack_runs_each_length_once(bert):
    denoiser, batches = Denoiser(bert, mask_token_id=1), []
    bert.register_forward_pre_hook(lambda _, __, kwargs: batches.append(kwargs["input_ids"].shape), with_kwargs=True)
    assert not denoiser.packs
    found = denoiser.logits_at(IDS, LENGTHS, INDEX)
    assert sorted(map(tuple, batches)) == [(1, 3), (1, 8), (3, 5)]
    assert_close(found, one_by_one(bert)[INDEX], rtol=1e-10, atol=1e-10)
    batches.clear()
    denoiser.logits_at(IDS, LENGTHS, torch.tensor([6, 7]))
    assert list(map(tuple, batches)) == [(1, 8)]


class OnePositionKept(BertForMaskedLM):
    """A model that does not pack but takes `logits_to_keep`."""

    def forward(self, input_ids, logits_to_keep=0):
        out = super().forward(input_ids=input_ids)
        out.logits = out.logits[:, logits_to_keep]
        return out


def test_logits_at_uses_logits_to_keep_where_the_model_has_it(bert):
    model = OnePositionKept(bert.config).double().eval()
    model.load_state_dict(bert.state_dict())
    found = Denoiser(model, mask_token_id=1).logits_at(IDS, LENGTHS, INDEX)
    assert_close(found, one_by_one(bert)[INDEX], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("packing", [True, False])
def test_logit_shift_reads_the_position_before_within_the_segment(tiny_llada, bert, packing):
    model = tiny_llada(dtype=torch.float64) if packing else bert
    found = Denoiser(model, mask_token_id=1, logit_shift=1).logits_at(IDS, LENGTHS, INDEX)
    # Segments start at 0, 5, 13, 18 and 23: their first token has no token before it.
    read_at = torch.tensor([24, 0, 3, 5, 11, 13, 21])
    assert_close(found, one_by_one(model)[read_at], rtol=1e-10, atol=1e-10)


def test_logit_shift_is_known_from_the_model_type(tiny_llada):
    model = tiny_llada()
    model.config.model_type = "Dream"
    assert Denoiser(model).logit_shift == 1
    assert Denoiser(model, logit_shift=0).logit_shift == 0


def test_hidden_states_and_head_compose_to_the_logits(tiny_llada, bert):
    model = tiny_llada(dtype=torch.float64, scale_logits=True)
    denoiser = Denoiser(model)
    hidden = denoiser.hidden_states(IDS, segment_lengths=LENGTHS)
    assert hidden.shape == (1, 26, 32)
    assert_close(denoiser.head(hidden[0, INDEX]), denoiser.logits_at(IDS, LENGTHS, INDEX), rtol=1e-10, atol=1e-10)
    mask = (torch.arange(26) < 20).long()[None]
    expected = model(input_ids=IDS, attention_mask=mask).logits[0]
    assert_close(denoiser.head(denoiser.hidden_states(IDS, mask)[0]), expected, rtol=1e-10, atol=1e-10)


def test_a_lora_model_packs(tiny_llada):
    model = get_peft_model(
        tiny_llada(dtype=torch.float64), LoraConfig(target_modules=LORA_TARGETS, init_lora_weights=False)
    )
    denoiser = Denoiser(model)
    assert denoiser.packs
    found = denoiser.logits_at(IDS, LENGTHS, INDEX)
    assert_close(found, one_by_one(model)[INDEX], rtol=1e-10, atol=1e-10)
    hidden = denoiser.hidden_states(IDS, segment_lengths=LENGTHS)
    assert_close(denoiser.head(hidden[0, INDEX]), found, rtol=1e-10, atol=1e-10)
    with model.disable_adapter():
        assert_close(denoiser.logits_at(IDS, LENGTHS, INDEX), one_by_one(tiny_llada(dtype=torch.float64))[INDEX])


def test_a_distributed_lora_model_packs_and_its_hooks_fire(tiny_llada, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        inner = get_peft_model(tiny_llada(), LoraConfig(target_modules=LORA_TARGETS, init_lora_weights=False))
        model = nn.parallel.DistributedDataParallel(inner)
        fired = []
        model.register_forward_pre_hook(lambda *_: fired.append(1))
        denoiser = Denoiser(model)
        assert denoiser.packs
        assert_close(denoiser.logits_at(IDS, LENGTHS, INDEX), Denoiser(inner).logits_at(IDS, LENGTHS, INDEX))
        assert fired
    finally:
        dist.destroy_process_group()


def test_rotary_tables_stay_float32_when_fsdp_casts_to_bfloat16(tiny_llada, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model, seen = tiny_llada(), []
        block = model.model.transformer["blocks"][1]
        mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
        for module in (*model.model.transformer["blocks"], model):
            fully_shard(module, mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
        block.q_proj.register_forward_hook(lambda *args: seen.append(args[2].dtype))
        block.register_forward_hook(lambda _, args, __: seen.append(args[1].cos.dtype))
        assert Denoiser(model).logits_at(IDS, LENGTHS, INDEX).dtype == torch.bfloat16
        assert seen == [torch.bfloat16, torch.float32]
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, at graph breaks
def test_a_compiled_model_packs(tiny_llada):
    model = tiny_llada()
    compiled = torch.compile(model, backend="eager")
    assert Denoiser(compiled).packs
    found = Denoiser(compiled).logits_at(IDS, LENGTHS, INDEX)
    assert_close(found, Denoiser(model).logits_at(IDS, LENGTHS, INDEX))


def test_mask_token_is_read_from_the_config_or_asked_for_by_flag(tiny_llada, bert):
    assert Denoiser(tiny_llada(), mask_token_id=7).mask_token_id == 7
    with pytest.raises(UserError, match="--mask_token_id: the model's config names no mask_token_id"):
        Denoiser(bert)
    with pytest.raises(UserError, match="--mask_token_id 260: the model has 260 embedding rows"):
        Denoiser(bert, mask_token_id=260)


def test_something_that_is_no_transformers_model_is_refused():
    with pytest.raises(TypeError, match="Linear is neither"):
        Denoiser(nn.Linear(2, 2), mask_token_id=1)
