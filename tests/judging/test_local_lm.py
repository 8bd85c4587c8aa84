"""A causal language model as a judge, read by the probability of the letters A, B and C."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from unveil.errors import UserError
from unveil.judging import judge_both_orders
from unveil.judging.local_lm import LocalJudge, load_local_judge
from unveil.judging.template import Template

PROMPTS = ["p", "a longer prompt", "x"]
A = ["first", "f", "an answer of some length"]
B = ["second answer", "s", "t"]
PLAIN = Template("{{prompt}} {{answer_a}} {{answer_b}}:", "t")


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=1024, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def judge(model, toy_tokenizer) -> LocalJudge:
    toy_tokenizer.chat_template = None
    return LocalJudge(model, toy_tokenizer, PLAIN, least_mass=0.0)


def shares(verdict) -> list[float]:
    return [float(part.split()[1]) for part in verdict.reason.split(", ")]


def test_the_verdict_is_the_most_probable_letter(judge, model, toy_tokenizer):
    verdicts = judge.compare(PROMPTS, A, B)
    letters = [toy_tokenizer(letter)["input_ids"][0] for letter in "ABC"]
    for verdict, prompt, a, b in zip(verdicts, PROMPTS, A, B):
        ids = toy_tokenizer(f"{prompt} {a} {b}:", return_tensors="pt")["input_ids"]
        expected = model(ids).logits[0, -1].softmax(-1)[letters]
        assert shares(verdict) == pytest.approx(expected.tolist(), abs=6e-4)
        assert verdict.winner == ("A", "B", "tie")[int(expected.argmax())]
        assert verdict.parsed


def test_a_batch_changes_nothing(judge, model, toy_tokenizer):
    texts = [[5, 6, 7], [8] * 40, [9, 10], [11] * 17]
    together = judge._probabilities(texts)
    for row, ids in enumerate(texts):
        torch.testing.assert_close(together[row], judge._probabilities([ids])[0], rtol=1e-4, atol=1e-7)
    single = LocalJudge(model, toy_tokenizer, PLAIN, tokens_per_batch=1, least_mass=0.0)
    assert single.compare(PROMPTS, A, B) == judge.compare(PROMPTS, A, B)


def test_logits_are_computed_at_the_last_position_only(judge, model):
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    judge.compare(PROMPTS, A, B)
    assert seen == [(3, 1, 260)]


def test_letters_with_and_without_a_space_count_together(judge, toy_tokenizer):
    assert judge._letter_ids == {letter: toy_tokenizer(letter)["input_ids"] for letter in "ABC"}


def test_a_model_that_always_says_a_is_unmasked_by_both_orders(judge, model, toy_tokenizer):
    always = toy_tokenizer("A")["input_ids"][0]
    model.lm_head.register_forward_hook(
        lambda module, inputs, output: output.index_fill(-1, torch.tensor(always), 50.0)
    )
    both = judge_both_orders(judge, PROMPTS, A, B)
    assert both.position_bias == 1.0
    assert [verdict.winner for verdict in both.verdicts] == ["tie"] * 3


def test_a_chat_template_is_used_where_there_is_one(model, toy_tokenizer):
    judge = LocalJudge(model, toy_tokenizer, PLAIN)
    text = toy_tokenizer.decode(judge._ids([{"role": "user", "content": "hello"}]))
    assert text == "<|begin|>user\nhello<|eot|>assistant\n"
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    toy_tokenizer.chat_template = refuses + "{{ messages[0]['content'] }}"
    parts = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert toy_tokenizer.decode(judge._ids(parts)) == "s\n\nu"
    toy_tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(UserError, match=r"judge local: its chat template fails \(never\)"):
        judge._ids(parts)


def test_what_the_model_does_not_say_is_unparsed(model, toy_tokenizer):
    judge = LocalJudge(model, toy_tokenizer, PLAIN, least_mass=0.9)
    (verdict,) = judge.compare(["p"], ["a"], ["b"])
    assert (verdict.winner, verdict.parsed) == ("tie", False)
    assert verdict.reason.startswith("hardly any probability on a verdict: A 0.")


def test_a_text_longer_than_the_context_is_unparsed_and_the_others_are_judged(judge):
    verdicts = judge.compare(["p", "q"], ["a" * 2000, "a"], ["b", "b"])
    assert [verdict.parsed for verdict in verdicts] == [False, True]
    assert verdicts[0].reason == "the text has 2005 tokens, the model reads 1024"


def test_broken_logits_are_an_error(judge, model):
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="judge local: its logits are not finite; try --judge_dtype float32"):
        judge.compare(["p"], ["a"], ["b"])


def test_a_tokenizer_without_the_letters_is_refused(model, toy_tokenizer):
    def lowercase(text, add_special_tokens=True):
        return {"input_ids": [7] if text.strip() else []}

    lowercase.unk_token_id = None  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="does not write A, B and C as one token each"):
        LocalJudge(model, lowercase)  # type: ignore[arg-type]


def test_a_saved_model_is_loaded(model, toy_tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "judge")
    toy_tokenizer.save_pretrained(tmp_path / "judge")
    judge = load_local_judge(str(tmp_path / "judge"), dtype="float32", device="cpu")
    assert (judge.name, judge.symmetric, judge.reads_columns) == ("judge", False, False)
    assert judge.template.source == "template letter"
    assert len(judge.compare(["p"], ["a"], ["b"])) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float33"}, "--judge_dtype float33: unknown"),
        ({"device": "nowhere"}, "cannot be loaded .* nowhere"),
    ],
)
def test_settings_that_make_no_sense_are_told(model, toy_tokenizer, tmp_path, settings, message):
    model.save_pretrained(tmp_path / "judge")
    toy_tokenizer.save_pretrained(tmp_path / "judge")
    with pytest.raises(UserError, match=message) as error:
        load_local_judge(str(tmp_path / "judge"), **settings)
    assert "\n" not in str(error.value)


def test_what_is_no_causal_model_is_refused(tiny_llada, toy_tokenizer, tmp_path):
    tiny_llada().save_pretrained(tmp_path / "masked")
    toy_tokenizer.save_pretrained(tmp_path / "masked")
    for name, message in (("masked", "is a masked diffusion model"), ("missing", "cannot be loaded as a causal lang")):
        with pytest.raises(UserError, match=f"--judge hf:{tmp_path / name}: {message}"):
            load_local_judge(str(tmp_path / name), device="cpu")


def test_a_checkpoint_that_lacks_tensors_is_refused(model, toy_tokenizer, tmp_path):
    kept = {name: tensor for name, tensor in model.state_dict().items() if "layers.1.mlp.up" not in name}
    model.save_pretrained(tmp_path / "judge", state_dict=kept)
    toy_tokenizer.save_pretrained(tmp_path / "judge")
    with pytest.raises(UserError, match=r"lacks 1 tensors, such as model.layers.1.mlp.up_proj.weight; mend its files"):
        load_local_judge(str(tmp_path / "judge"), device="cpu")
