"""However sequences are put together (one by one, padded, packed), each gets the same logits and gradients."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
LENGTHS = [7, 7, 7, 12, 3, 3, 1, 7]


def segments(lengths=LENGTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(2, 260, (length,), generator=generator) for length in lengths]


def padded(rows, side):
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        ids[number, place], mask[number, place] = row, 1
    return ids, mask


def gradients(model, logits):
    """Gradient of a loss that weighs every token, by parameter name."""
    targets = torch.arange(len(logits)) % 260
    weights = torch.linspace(-1, 2, len(logits), dtype=logits.dtype)
    loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
    names, parameters = zip(*model.named_parameters())
    return dict(zip(names, torch.autograd.grad(loss, parameters)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("fields", [{}, {"n_kv_heads": 2}])
def test_packed_equals_one_by_one_in_values_and_gradients(tiny_llada, dtype, fields):
    model, rows, tolerance = tiny_llada(dtype=dtype, **fields), segments(), TOLERANCE[dtype]
    alone = torch.cat([model(input_ids=row[None]).logits[0] for row in rows])
    packed = model(input_ids=torch.cat(rows)[None], segment_lengths=LENGTHS).logits[0]
    assert_close(packed, alone, rtol=tolerance, atol=tolerance)
    expected = gradients(model, alone)
    for name, gradient in gradients(model, packed).items():
        assert_close(gradient, expected[name], rtol=tolerance, atol=10 * tolerance, msg=lambda m, name=name: name + m)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_nothing_on_either_side(tiny_llada, dtype, side):
    model, rows, tolerance = tiny_llada(dtype=dtype), segments(), TOLERANCE[dtype]
    ids, mask = padded(rows, side)
    alone = torch.cat([model(input_ids=row[None]).logits[0] for row in rows])
    batch = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    assert_close(batch, alone, rtol=tolerance, atol=tolerance)
    expected = gradients(model, alone)
    for name, gradient in gradients(model, batch).items():
        assert_close(gradient, expected[name], rtol=tolerance, atol=10 * tolerance, msg=lambda m, name=name: name + m)
    other = torch.where(mask.bool(), ids, 9)
    assert torch.equal(model(input_ids=other, attention_mask=mask).logits[mask.bool()], batch)


def test_padding_in_the_middle_takes_no_position(tiny_llada):
    model, row = tiny_llada(dtype=torch.float64), segments([6])[0]
    mask = torch.tensor([[1, 1, 0, 0, 0, 1, 0, 1, 1, 1]])
    ids = torch.zeros(1, 10, dtype=torch.long).masked_scatter(mask.bool(), row)
    spread = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    assert_close(spread, model(input_ids=row[None]).logits[0], rtol=1e-10, atol=1e-10)


def test_one_run_of_equal_segments_equals_a_plain_batch(tiny_llada):
    model, rows = tiny_llada(dtype=torch.float64), segments([9] * 4)
    packed = model(input_ids=torch.cat(rows)[None], segment_lengths=[9] * 4).logits[0]
    batch = model(input_ids=torch.stack(rows), attention_mask=torch.ones(4, 9)).logits
    assert_close(packed, batch.flatten(0, 1), rtol=1e-12, atol=1e-12)


def test_positions_restart_in_each_segment(tiny_llada):
    # Attention sees only differences of positions: logits would not show it until far angles lose precision.
    model, seen = tiny_llada(), []
    model.model.transformer["blocks"][0].register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    model(input_ids=torch.cat(segments())[None], segment_lengths=LENGTHS)
    angle = torch.cat([torch.arange(length) for length in LENGTHS])  # channel 0 turns by one radian a position
    assert_close(seen[0].cos[:, 0, 0], angle.cos())
    assert_close(seen[0].sin[:, 0, 0], angle.sin())


def test_a_token_of_another_segment_is_invisible(tiny_llada):
    model, rows = tiny_llada(), segments()
    before = model(input_ids=torch.cat(rows)[None], segment_lengths=LENGTHS).logits[0]
    rows[3] = rows[3].flip(0)
    after = model(input_ids=torch.cat(rows)[None], segment_lengths=LENGTHS).logits[0]
    changed = (before != after).any(-1)
    assert changed[21:33].all()
    assert not changed[:21].any()
    assert not changed[33:].any()


def test_positions_may_be_given(tiny_llada):
    model, ids = tiny_llada(dtype=torch.float64), segments([10])[0][None]
    plain = model(input_ids=ids).logits
    # Rotary attention sees differences only: a common offset changes nothing, another spacing does.
    assert_close(model(input_ids=ids, position_ids=torch.arange(10)[None] + 40).logits, plain, rtol=1e-9, atol=1e-9)
    assert (model(input_ids=ids, position_ids=torch.arange(10)[None] * 3).logits - plain).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_to_keep_gathers_the_full_logits(tiny_llada, dtype):
    model, rows, tolerance = tiny_llada(dtype=dtype), segments(), TOLERANCE[dtype]
    ids = torch.cat(rows)[None]
    full = model(input_ids=ids, segment_lengths=LENGTHS).logits
    index = torch.tensor([40, 0, 13, 13, 46])
    kept = model(input_ids=ids, segment_lengths=LENGTHS, logits_to_keep=index).logits
    assert kept.shape == (1, 5, 260)
    assert_close(kept, full[:, index], rtol=tolerance, atol=tolerance)
    expected = gradients(model, full[0, index])
    for name, gradient in gradients(model, kept[0]).items():
        assert_close(gradient, expected[name], rtol=tolerance, atol=10 * tolerance, msg=lambda m, name=name: name + m)


def test_logits_to_keep_of_a_batch_and_of_the_last_positions(tiny_llada):
    model = tiny_llada(dtype=torch.float64)
    ids, mask = padded(segments(), "left")
    full = model(input_ids=ids, attention_mask=mask).logits
    index = torch.tensor([11, 4])
    some = model(input_ids=ids, attention_mask=mask, logits_to_keep=index).logits
    assert_close(some, full[:, index], rtol=1e-12, atol=1e-12)
    last = model(input_ids=ids, attention_mask=mask, logits_to_keep=3).logits
    assert_close(last, full[:, -3:], rtol=1e-12, atol=1e-12)


def test_only_kept_positions_meet_the_head(tiny_llada):
    model, rows, seen = tiny_llada(), segments(), []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[:-1].numel()))
    model(input_ids=torch.cat(rows)[None], segment_lengths=LENGTHS, logits_to_keep=torch.tensor([3, 8]))
    assert seen == [2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"segment_lengths": [4, 5]}, "sum to 9"),
        ({"segment_lengths": [10, 0]}, "positive lengths"),
        ({"segment_lengths": []}, "sum to 0"),
        ({"segment_lengths": [10], "attention_mask": torch.ones(1, 10)}, "attention_mask must be None"),
        ({"attention_mask": torch.ones(1, 9)}, r"\(1, 9\), not \(1, 10\)"),
        ({"labels": torch.zeros(1, 10)}, "neither a loss"),
        ({"output_attentions": True}, "neither a loss"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tiny_llada, arguments, said):
    with pytest.raises(ValueError, match=said):
        tiny_llada()(input_ids=segments([10])[0][None], **arguments)


def test_packed_input_has_one_row(tiny_llada):
    with pytest.raises(ValueError, match=r"not \[2, 5\]"):
        tiny_llada()(input_ids=torch.zeros(2, 5, dtype=torch.long), segment_lengths=[5, 5])
