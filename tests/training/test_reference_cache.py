"""The reference cache: what it serves equals a live reference bit for bit, and what it cannot serve it refuses."""

import json
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from unveil.draws import plan
from unveil.errors import UserError, UserInputWarning
from unveil.likelihood import build_rows
from unveil.likelihood.canonical import canonical_batches, canonical_log_probs
from unveil.likelihood.version import ESTIMATOR_VERSION
from unveil.models import Denoiser
from unveil.training import PreferenceConfig, add_adapters, reference_cache, surrogate_trainer
from unveil.training.cache_keys import ALONE, Key, answers_of, epochs_of
from unveil.training.cached_reference import CachedReference, by_answer, reference_from_cache
from unveil.training.fingerprint import fingerprint_of
from unveil.training.reference import row_sums_of
from unveil.training.reference_cache import HELD_OUT_EPOCH, ReferenceCache, fill


def config(folder, **arguments) -> PreferenceConfig:
    defaults = {"output_dir": str(folder), "use_cpu": True, "report_to": "none", "seed": 1}
    return PreferenceConfig(**{**defaults, **arguments})


class Scorer:
    """Values of a dataset as `unveil reference` computes them; stops after `limit` answers."""

    def __init__(self, model, dataset, args, held_out=None, limit=None):
        self.denoiser, self.args, self.limit, self.count = Denoiser(model), args, limit, 0
        self.answers = {
            a.key(e): a for a in answers_of(dataset, args.share_sizes) for e in epochs_of(args, len(dataset))
        }
        if held_out is not None:
            self.answers |= {a.key(HELD_OUT_EPOCH): a for a in answers_of(held_out, args.share_sizes)}

    def __call__(self, keys):
        found = []
        for key in keys:
            if self.count == self.limit:
                raise KeyboardInterrupt
            self.count += 1
            response, num_draws = self.answers[key].response, self.args.num_draws
            if key.epoch == HELD_OUT_EPOCH:
                num_draws = self.args.eval_num_draws or num_draws
            drawn = plan(
                self.args.plan_seed, response.example_id, key.epoch, response.length, num_draws, self.args.draw_design,
                size_id=None if key.size_id == ALONE else key.size_id,
            )  # fmt: skip
            rows = build_rows([response], [drawn], self.denoiser.mask_token_id)
            found += by_answer(rows, canonical_log_probs(self.denoiser, rows))
        return found


def write(folder, model, data, args, held_out=None, limit=None) -> int:
    """Make a cache; returns how many answers were scored."""
    scorer = Scorer(model, data, args, held_out, limit)
    cache = ReferenceCache.create(folder, fingerprint_of(model, Denoiser(model), None, data, args, held_out))
    fill(cache, scorer.answers, scorer)
    return scorer.count


def groups(rows) -> list[dict]:
    """Pairs of neighbouring rows that share a prompt."""
    found = []
    for one, other in zip(rows[::2], rows[1::2]):
        members = [{**row, "prompt_ids": one["prompt_ids"]} for row in (one, other)]
        for member in members:
            member.pop("label", None)
        found.append({"example_id": one["example_id"], "responses": members, "relevance": [1.0, 0.0]})
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(reference_cache, "ANSWERS_PER_SHARD", 4)


# -- what it serves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ("thumbs", {"draws": "fresh"}),
        ("thumbs", {"draws": "fixed", "combiner": "hajek"}),
        ("groups", {"draws": "fresh", "objective": "dpo"}),
        ("groups", {"objective": "ld_dpo"}),
        ("groups", {"objective": "dpo", "share_sizes": False, "eval_num_draws": 6}),
    ],
)
def test_training_from_a_cache_equals_a_live_reference_bit_for_bit(
    trainer_of, rows, tiny_llada, tmp_path, monkeypatch, shape, arguments
):
    """Three epochs with an evaluation after each, in float32; the live reference packs answer by answer as well."""
    monkeypatch.setattr(
        surrogate_trainer, "micro_batches", lambda rows, tokens, device: canonical_batches(rows, device)
    )
    data, held_out = rows(8), rows(4, seed=2)
    if shape == "groups":
        data, held_out = groups(data), groups(held_out)
    arguments = {"per_device_train_batch_size": 4, "num_train_epochs": 3, "eval_strategy": "epoch", **arguments}
    args = config(tmp_path / "run", **arguments)
    datasets = Dataset.from_list(data), Dataset.from_list(held_out)
    write(tmp_path / "cache", tiny_llada(vocab_size=24), datasets[0], args, datasets[1])

    ends = []
    for cached in (False, True):
        model = tiny_llada(vocab_size=24)
        reference = None
        if cached:
            reference = reference_from_cache(
                tmp_path / "cache", model, Denoiser(model), None, datasets[0], args, datasets[1]
            )
        trainer = trainer_of(
            data, model, eval_rows=held_out, trainer_arguments={"reference": reference}, seed=1, **arguments
        )
        trainer.train()
        weights = torch.cat([p.flatten() for p in model.parameters()])
        ends.append(
            (weights, [{k: v for k, v in log.items() if "/" in k or "loss" in k} for log in trainer.state.log_history])
        )
    assert torch.equal(ends[0][0], ends[1][0])
    assert [log.get("eval_loss") for log in ends[0][1]] == [log.get("eval_loss") for log in ends[1][1]]
    assert any(log.get("eval_loss") for log in ends[0][1])


def test_the_margins_of_an_untrained_policy_are_exactly_zero(trainer_of, rows, tiny_llada, tmp_path, monkeypatch):
    monkeypatch.setattr(
        surrogate_trainer, "micro_batches", lambda rows, tokens, device: canonical_batches(rows, device)
    )
    data, args, model = rows(8), config(tmp_path / "run"), tiny_llada(vocab_size=24)
    write(tmp_path / "cache", model, Dataset.from_list(data), args)
    reference = reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, Dataset.from_list(data), args)
    trainer = trainer_of(data, model, trainer_arguments={"reference": reference}, seed=1)
    assert [r.margin for r in trainer._scored(trainer.prepare(data[::-1], 0), 0)] == [0.0] * 8


def test_adapters_off_are_the_base_model(rows, tiny_llada, tmp_path):
    data, args = Dataset.from_list(rows(4)), config(tmp_path / "run")
    base = tiny_llada(vocab_size=24)
    write(tmp_path / "cache", base, data, args)
    adapted = add_adapters(tiny_llada(vocab_size=24), r=2, alpha=4)
    assert reference_from_cache(tmp_path / "cache", adapted, Denoiser(adapted), None, data, args).cache.epochs == [0]


def test_fresh_epochs_differ_and_more_of_them_are_added_alone(rows, tiny_llada, tmp_path):
    model, data = tiny_llada(vocab_size=24), Dataset.from_list(rows(6, longest=30))
    assert write(tmp_path / "cache", model, data, config(tmp_path / "run")) == 6
    before = files(tmp_path / "cache")
    args = config(tmp_path / "run", num_train_epochs=3)
    assert write(tmp_path / "cache", model, data, args) == 12
    assert before.items() <= files(tmp_path / "cache").items()
    cache = ReferenceCache.open(tmp_path / "cache", fingerprint_of(model, Denoiser(model), None, data, args))
    assert cache.epochs == [0, 1, 2]
    answers = [answer for answer in answers_of(data, True) if answer.response.length > 5]
    assert answers
    for answer in answers:
        one, other = (cache.values(answer.key(epoch)) for epoch in (0, 1))
        assert not torch.equal(one, other)


def test_held_out_answers_are_added_alone(rows, tiny_llada, tmp_path):
    model, data, held_out = tiny_llada(vocab_size=24), Dataset.from_list(rows(6)), Dataset.from_list(rows(4, seed=2))
    args = config(tmp_path / "run")
    write(tmp_path / "cache", model, data, args)
    with pytest.raises(UserError, match=r"holds no held-out answers.*--eval_dataset_name"):
        reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, data, args, held_out)
    assert write(tmp_path / "cache", model, data, args, held_out) == 4
    reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, data, args, held_out)
    reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, data, args)


def test_some_of_the_rows_may_use_what_was_computed_for_all(rows, tiny_llada, tmp_path):
    model, data, args = tiny_llada(vocab_size=24), Dataset.from_list(rows(6)), config(tmp_path / "run")
    write(tmp_path / "cache", model, data, args)
    some = data.select([4, 1])
    reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, some, args)
    assert write(tmp_path / "cache", model, some, args) == 0


def test_iid_draws_nest(rows, tiny_llada, tmp_path):
    model, data = tiny_llada(vocab_size=24), Dataset.from_list(rows(4))
    many, few = (config(tmp_path / "run", draw_design="iid", num_draws=n) for n in (16, 4))
    write(tmp_path / "many", model, data, many)
    write(tmp_path / "few", model, data, few)
    caches = [
        ReferenceCache.open(tmp_path / name, fingerprint_of(model, Denoiser(model), None, data, few))
        for name in ("many", "few")
    ]
    for answer in answers_of(data, True):
        ours, theirs = (cache.values(answer.key(0)) for cache in caches)
        assert len(ours) == 4
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    with pytest.raises(UserError, match=r"differs in draws \(num_draws 4 there, 16 here\)"):
        ReferenceCache.open(tmp_path / "few", fingerprint_of(model, Denoiser(model), None, data, many))


# -- interrupted work -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("limit", [0, 3, 4, 9])
def test_interrupted_work_goes_on_to_the_same_bytes(rows, tiny_llada, tmp_path, limit):
    model, data = tiny_llada(vocab_size=24), Dataset.from_list(rows(10))
    args = config(tmp_path / "run")
    assert write(tmp_path / "whole", model, data, args) == 10
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut", model, data, args, limit=limit)
    (tmp_path / "cut" / ".epoch-0-from-4-12345678.safetensors.xyz").write_bytes(b"half")
    fingerprint = fingerprint_of(model, Denoiser(model), None, data, args)
    cache = ReferenceCache.open(tmp_path / "cut", fingerprint)
    with pytest.raises(UserError, match=r"is not finished, values of \d+ answers are missing \(row .*goes on where"):
        cache.require(answer.key(0) for answer in answers_of(data, True))
    assert write(tmp_path / "cut", model, data, args) == 10 - limit // 4 * 4
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.usefixtures("small_files")
def test_shares_of_several_processes_make_the_same_files(rows, tiny_llada, tmp_path):
    model, data, args = tiny_llada(vocab_size=24), Dataset.from_list(rows(10)), config(tmp_path / "run")
    write(tmp_path / "whole", model, data, args)
    for share in (1, 0):
        scorer = Scorer(model, data, args)
        cache = ReferenceCache.create(tmp_path / "shared", fingerprint_of(model, Denoiser(model), None, data, args))
        fill(cache, scorer.answers, scorer, share, 2)
    assert files(tmp_path / "shared") == files(tmp_path / "whole")


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-3], "is cut or is no file of a reference cache"),
        (lambda data: data[:40], "is cut or is no file of a reference cache"),
        (lambda data: b"", "is cut or is no file of a reference cache"),
        (lambda data: data[:-2] + bytes([data[-2] ^ 64]) + data[-1:], "its content is not what was written"),
    ],
    ids=["cut", "header", "empty", "bit"],
)
def test_a_damaged_file_is_refused_and_computed_anew(rows, tiny_llada, tmp_path, damage, reason):
    model, data, args = tiny_llada(vocab_size=24), Dataset.from_list(rows(10)), config(tmp_path / "run")
    write(tmp_path / "cache", model, data, args)
    before = files(tmp_path / "cache")
    victim = next((tmp_path / "cache").glob("epoch-0-from-4-*"))
    victim.write_bytes(damage(victim.read_bytes()))
    with pytest.raises(UserError, match=rf"^--ref_cache .*{victim.name}: {reason}.*computes that part anew$"):
        ReferenceCache.open(tmp_path / "cache", fingerprint_of(model, Denoiser(model), None, data, args))
    with pytest.warns(UserInputWarning, match=f"{reason}.*it is computed anew"):
        assert write(tmp_path / "cache", model, data, args) == 4
    assert files(tmp_path / "cache") == before


# -- refusals -------------------------------------------------------------------------------------------------------


def changed(row: dict) -> dict:
    return {**row, "completion_ids": [*row["completion_ids"][:-1], 7, 0]}


def other_weights(model):
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    return model


@pytest.mark.parametrize(
    ("arguments", "model_change", "expected"),
    [
        ({"draw_seed": 9}, None, ["draws (seed 1 there, 9 here)"]),
        ({"num_draws": 8}, None, ["draws (num_draws 4 there, 8 here)"]),
        ({"num_draws": 2}, None, ["draws (num_draws 4 there, 2 here)"]),
        ({"num_draws_weight": 6}, None, ["draws (num_draws 4 there, 6 here)"]),
        (
            {"draw_design": "iid", "num_draws": 8, "strata_exponent": 1.5, "masks_per_size": 2},
            None,
            ["draws (draw_design quadratic_tiling there, iid here; num_draws 4 there, 8 here; "
             "masks_per_size 1 there, 2 here; 1 more)"],
        ),
        ({"end_of_answer": "none"}, None, ["end of answer (end_of_answer one_eos there, none here)"]),
        ({}, other_weights, ["model weights"]),
        ({}, lambda m: m.to(torch.bfloat16), ["model weights", "precision (dtype float32 there, bfloat16 here)"]),
        ({"bf16": True}, None, ["precision (autocast none there, bfloat16 here)"]),
    ],
)  # fmt: skip
def test_every_part_that_differs_is_named_and_no_other(rows, tiny_llada, tmp_path, arguments, model_change, expected):
    data = Dataset.from_list(rows(4))
    write(tmp_path / "cache", tiny_llada(vocab_size=24), data, config(tmp_path / "run"))
    model = tiny_llada(vocab_size=24)
    model = model_change(model) if model_change else model
    fingerprint = fingerprint_of(model, Denoiser(model), None, data, config(tmp_path / "run", **arguments))
    said = rf"was made for another run and differs in {re.escape(', '.join(expected))}; make a cache for this run in"
    with pytest.raises(UserError, match=said):
        ReferenceCache.open(tmp_path / "cache", fingerprint)
    with pytest.raises(UserError, match=r"^--output_dir .*another run.*give the flags that it was made with"):
        ReferenceCache.create(tmp_path / "cache", fingerprint)


def test_other_code_tokens_mask_settings_and_tokenizer_are_named(
    rows, tiny_llada, toy_tokenizer, tmp_path, monkeypatch
):
    data, args = Dataset.from_list(rows(4)), config(tmp_path / "run")
    model = tiny_llada(vocab_size=24)
    ours = fingerprint_of(model, Denoiser(model), toy_tokenizer, data, args)
    ReferenceCache.create(tmp_path / "cache", ours)

    def refused(data=data, model=model, tokenizer=toy_tokenizer, denoiser=None):
        with pytest.raises(UserError) as caught:
            ReferenceCache.open(
                tmp_path / "cache", fingerprint_of(model, denoiser or Denoiser(model), tokenizer, data, args)
            )
        return str(caught.value).split("differs in ")[1].split("; make a cache")[0]

    assert refused(Dataset.from_list([*rows(3), changed(rows(4)[3])])) == "data (other tokens in row 3)"
    assert refused(Dataset.from_list(rows(6))) == "data (no row 4, 5 there)"
    assert refused(denoiser=Denoiser(model, 2)) == "mask token (mask_token_id 1 there, 2 here)"
    assert refused(denoiser=Denoiser(model, logit_shift=1)) == "mask token (logit_shift 0 there, 1 here)"
    theta = tiny_llada(vocab_size=24, rope_theta=100.0)
    assert refused(model=theta) == "model configuration (rope_theta 500000.0 there, 100.0 here)"
    toy_tokenizer.chat_template += " "
    assert refused() == "tokenizer"
    toy_tokenizer.chat_template = toy_tokenizer.chat_template[:-1]
    monkeypatch.setattr("unveil.training.fingerprint.ESTIMATOR_VERSION", 99)
    assert refused() == f"code (estimator_version {ESTIMATOR_VERSION} there, 99 here)"


def test_an_epoch_too_few_is_told_with_the_way_to_extend(rows, tiny_llada, tmp_path):
    model, data = tiny_llada(vocab_size=24), Dataset.from_list(rows(4))
    write(tmp_path / "cache", model, data, config(tmp_path / "run", num_train_epochs=2))
    args = config(tmp_path / "run", num_train_epochs=4)
    with pytest.raises(UserError, match=r"epoch 0, 1, and this run needs epoch 2, 3 too;.*--num_train_epochs 4 .*only"):
        reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, data, args)
    for fewer in ({}, {"draws": "fixed", "num_train_epochs": 9}):
        args = config(tmp_path / "run", **fewer)
        reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, data, args)


def test_what_is_no_cache_is_refused(rows, tiny_llada, tmp_path):
    model, data, args = tiny_llada(vocab_size=24), Dataset.from_list(rows(4)), config(tmp_path / "run")
    fingerprint = fingerprint_of(model, Denoiser(model), None, data, args)
    with pytest.raises(UserError, match="there is no such folder; make the cache with `unveil reference`"):
        ReferenceCache.open(tmp_path / "nowhere", fingerprint)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is no reference cache \(it has no cache.json\)"):
        ReferenceCache.open(foreign, fingerprint)
    with pytest.raises(UserError, match="holds something that is no reference cache; give another folder"):
        ReferenceCache.create(foreign, fingerprint)
    with pytest.raises(UserError, match="is a file, a folder is needed"):
        ReferenceCache.create(foreign / "notes.txt", fingerprint)
    write(tmp_path / "cache", model, data, args)
    known = (tmp_path / "cache" / "cache.json").read_text()
    for content, reason in (
        ("{", "cache.json cannot be read"),
        ("[]", "cache.json cannot be read"),
        (json.dumps({**json.loads(known), "format": 9}), "has format 9, and 1 is read here"),
    ):
        (tmp_path / "cache" / "cache.json").write_text(content)
        with pytest.raises(UserError, match=reason):
            ReferenceCache.open(tmp_path / "cache", fingerprint)
    (tmp_path / "cache" / "cache.json").write_text(known)
    (tmp_path / "cache" / "answers.safetensors").unlink()
    with pytest.raises(UserError, match=r"answers.safetensors is missing or cut"):
        ReferenceCache.open(tmp_path / "cache", fingerprint)


@pytest.mark.parametrize("other", ["seed", "data"])
def test_a_file_of_another_cache_is_refused(rows, tiny_llada, tmp_path, other):
    model, data, args = tiny_llada(vocab_size=24), Dataset.from_list(rows(4)), config(tmp_path / "run")
    theirs = Dataset.from_list([changed(row) for row in rows(4)]) if other == "data" else data
    write(tmp_path / "theirs", model, theirs, config(tmp_path / "run", seed=2) if other == "seed" else args)
    write(tmp_path / "ours", model, data, args)
    (shard,) = (tmp_path / "theirs").glob("epoch-*")
    (tmp_path / "ours" / shard.name).write_bytes(shard.read_bytes())
    with pytest.raises(UserError, match="belongs to another reference cache"):
        ReferenceCache.open(tmp_path / "ours", fingerprint_of(model, Denoiser(model), None, data, args))


def test_rows_that_were_not_scored_are_refused(trainer_of, rows, tiny_llada, tmp_path):
    """Other tokens under a known name, other draws, an unknown name."""
    data, args, model = rows(4), config(tmp_path / "run"), tiny_llada(vocab_size=24)
    write(tmp_path / "cache", model, Dataset.from_list(data), args)
    reference = reference_from_cache(tmp_path / "cache", model, Denoiser(model), None, Dataset.from_list(data), args)
    trainer = trainer_of(data, model, seed=1)

    def ask(rows, epoch=0, num_draws=None):
        batch = trainer.prepare(rows, epoch, num_draws)
        return row_sums_of(batch, reference.log_probs(batch, [(r.example_id, epoch) for r in batch.responses]))

    assert ask(data).shape == (16,)
    with pytest.raises(UserError, match="row 1 has other tokens there"):
        ask([changed(data[1])])
    with pytest.raises(UserError, match="row 0 has other draws there"):
        ask(data, num_draws=3)
    with pytest.raises(UserError, match=r"row 77"):
        ask([{**data[0], "example_id": 77}])
    with pytest.raises(UserError, match=r"this run needs epoch 5 too"):
        ask(data, epoch=5)


def test_one_name_for_several_answers_is_refused(rows, tiny_llada, tmp_path):
    model, args = tiny_llada(vocab_size=24), config(tmp_path / "run")
    data = Dataset.from_list([*rows(3), changed(rows(3)[1])])
    with pytest.raises(UserError, match="row 1 stands for several answers"):
        fingerprint_of(model, Denoiser(model), None, data, args)
    parts = {"one": Dataset.from_list(rows(3)), "two": Dataset.from_list([changed(row) for row in rows(3)])}
    with pytest.raises(UserError, match=r"^--eval_dataset_name: row 0, 1, 2 stands for several"):
        fingerprint_of(model, Denoiser(model), None, Dataset.from_list(rows(3)), args, parts)


def test_an_answer_in_several_pairs_has_values_for_each_prompt_that_shares_its_sizes(rows, tiny_llada, tmp_path):
    model, args = tiny_llada(vocab_size=24), config(tmp_path / "run")
    one, other, third = groups(rows(6, longest=30))[:3]
    again = {**third, "responses": [third["responses"][0], one["responses"][1]]}
    data = Dataset.from_list([one, other, third, again])
    write(tmp_path / "cache", model, data, args)
    cache = ReferenceCache.open(tmp_path / "cache", fingerprint_of(model, Denoiser(model), None, data, args))
    assert Key(0, 1, 0) in cache
    assert Key(0, 1, 4) in cache
    assert isinstance(CachedReference(cache, True), CachedReference)


@pytest.mark.parametrize(
    ("arguments", "rows", "count"),
    [
        ({"num_train_epochs": 2.5}, 10, 3),
        ({"num_train_epochs": 3, "draws": "fixed"}, 10, 1),
        ({"max_steps": 6, "per_device_train_batch_size": 4}, 10, 2),
        ({"max_steps": 10, "per_device_train_batch_size": 4, "dataloader_drop_last": True}, 10, 5),
        ({"max_steps": 5, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, 10, 2),
    ],
)
def test_epochs_are_those_that_the_trainer_reaches(tmp_path, arguments, rows, count):
    assert len(epochs_of(config(tmp_path, **arguments), rows)) == count
