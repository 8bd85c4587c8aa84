"""The endpoint judge against a scripted faulty server: nothing judged is lost or paid twice."""

import socket
import threading
import time
from typing import Any

import pytest
from scripted_endpoint import (
    KEY,
    LONG,
    MODEL,
    PROMPTS,
    SHORT,
    answers_in,
    judge_of,
    wait_until,
    winners,
)

from unveil.errors import UserError
from unveil.judging import judge_both_orders
from unveil.judging.answer_cache import AnswerCache
from unveil.judging.endpoint import Endpoint, Sampling
from unveil.judging.endpoint_judge import EndpointJudge
from unveil.judging.retrying import Backoff
from unveil.judging.template import Template
from unveil.judging.usage import Prices

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("api_key")

PLAIN = "| {{prompt}}\n[Answer A]\n{{answer_a}}\n[End of answer A] [Answer B]\n{{answer_b}}\n[End of answer B]"


def test_verdicts_reasons_tokens_and_cost_arrive(server):
    judge = judge_of(server, prices=Prices(1.0, 4.0))
    verdicts = judge.compare(PROMPTS[:3], ["long answer", "s", "s"], ["s", "long answer", "t"])
    assert winners(verdicts) == ["A", "B", "tie"]
    assert [verdict.reason for verdict in verdicts] == ["11 against 1", "1 against 11", "1 against 1"]
    usage = judge.usage
    assert (usage.requests, usage.cached, usage.prompt_tokens, usage.completion_tokens) == (3, 0, 300, 30)
    assert usage.cost == pytest.approx((300 * 1.0 + 30 * 4.0) / 1e6)
    assert usage.describe() == "3 requests, 0 from the cache, 300 tokens read and 30 written, cost 0.0004"
    body = server.asked[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == (MODEL, 0.0, 1024)


def test_a_judge_that_likes_the_first_answer_is_unmasked_by_both_orders(server):
    server.says = lambda body: "Verdict: A"
    both = judge_both_orders(judge_of(server), PROMPTS, LONG, SHORT)
    assert winners(both.verdicts) == ["tie"] * 12
    assert both.position_bias == 1.0
    assert len(server.asked) == 24


def test_equal_questions_are_asked_once_and_equal_answers_never(server):
    judge = judge_of(server)
    verdicts = judge.compare(["p", "p", "q", "r"], ["long", "long", "same", ""], ["s", "s", "same", ""])
    assert winners(verdicts) == ["A", "A", "tie", "tie"]
    assert verdicts[2].reason == "the answers are the same"
    assert len(server.asked) == 1


def test_an_empty_answer_is_judged_like_any_other(server):
    assert winners(judge_of(server).compare(["p"], [""], ["something"])) == ["B"]
    assert answers_in(server.asked[0]) == ("", "something")


FAULTS = [429, (429, {"Retry-After": "0.01"}), 500, 503, "malformed", "html", "no_choices", "cut", "half", "hang"]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_passing_fault_costs_one_more_request_and_no_verdict(server, fault):
    server.acts = [None, fault]
    judge = judge_of(server, concurrency=1, timeout=2 if fault == "hang" else 60)
    assert winners(judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])) == ["A"] * 3
    assert len(server.asked) == 4
    assert judge.usage.requests == 4
    assert judge.usage.completion_tokens == 30
    judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])
    assert len(server.asked) == 4, "what was answered is never asked again"


def test_many_faults_at_once_lose_nothing_and_pay_nothing_twice(server, tmp_path):
    server.acts = [None, *FAULTS]
    judge = judge_of(server, AnswerCache(tmp_path / "cache.jsonl"), backoff=Backoff(12, 0.001, 1.0), timeout=3)
    assert winners(judge.compare(PROMPTS, LONG, SHORT)) == ["A"] * 12
    assert len(server.asked) == 12 + len(FAULTS)
    assert len(server.answered) == 12
    assert len({answers_in(body) for body in server.answered}) == 12
    again = judge_of(server, AnswerCache(tmp_path / "cache.jsonl"))
    assert winners(again.compare(PROMPTS, LONG, SHORT)) == ["A"] * 12
    assert (again.usage.requests, again.usage.cached) == (0, 12)


@pytest.mark.parametrize("fault", [429, 500, "malformed", "cut"], ids=str)
def test_a_lasting_fault_stops_with_what_was_kept_and_the_next_run_goes_on(server, fault, tmp_path):
    # What may be the fault of one question stops the run when it meets the next one too.
    questions = 2 if fault in (500, "malformed") else 1
    server.acts = [None, None, *[fault] * 4 * questions]
    path = tmp_path / "cache.jsonl"
    judge = judge_of(server, AnswerCache(path), concurrency=1)
    with pytest.raises(UserError, match=r"\(4 attempts\); .*\(2 answers are kept in .*cache.jsonl\)") as error:
        judge.compare(PROMPTS[:5], LONG[:5], SHORT[:5])
    assert "\n" not in str(error.value)
    assert len(server.asked) == 2 + 4 * questions
    again = judge_of(server, AnswerCache(path))
    assert winners(again.compare(PROMPTS[:5], LONG[:5], SHORT[:5])) == ["A"] * 5
    assert (again.usage.requests, again.usage.cached) == (3, 2)
    assert len(server.answered) == 5


def test_retry_after_is_honoured_by_all_threads(server):
    server.acts = [None, (429, {"Retry-After": "0.4"})]
    judge = judge_of(server, concurrency=4)
    start = time.monotonic()
    judge.compare(PROMPTS, LONG, SHORT)
    assert time.monotonic() - start > 0.4
    assert len(server.asked) == 13


def test_an_endpoint_that_wants_an_hour_stops_at_once(server):
    server.acts = [(429, {"Retry-After": "3600"})]
    with pytest.raises(UserError, match=r"answered 429 .* asks to wait 3600 s; run again then"):
        judge_of(server).compare(PROMPTS, LONG, SHORT)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "wrong"}, r"answered 401 \(Incorrect API key provided\); check OPENAI_API_KEY"),
        ({"key": ""}, "answered 401 .*; OPENAI_API_KEY is not set; set it"),
        ({"model": "no-such"}, r"answered 404 \(The model 'no-such' does not exist\); check --judge_model"),
        ({"path": ""}, r"answered 404 \(Not Found\); .*--judge_base_url, which mostly ends in /v1"),
        ({"acts": [403]}, "answered 403"),
        ({"acts": [402]}, "the account has nothing left"),
        ({"acts": [405]}, r"answered 405 .*check --judge_base_url \(or OPENAI_BASE_URL\)"),
    ],
)
def test_what_asking_again_cannot_mend_stops_after_one_request(server, monkeypatch, change, message):
    monkeypatch.setenv("OPENAI_API_KEY", change.get("key", KEY))
    server.acts = change.get("acts", [])
    base_url = server.url.removesuffix("/v1") + change.get("path", "/v1")
    judge = judge_of(server, model=change.get("model", MODEL), base_url=base_url)
    with pytest.raises(UserError, match=message) as error:
        judge.compare(PROMPTS, LONG, SHORT)
    assert "\n" not in str(error.value)
    assert len(server.asked) == 1


def test_an_address_where_nobody_listens_is_said_after_three_attempts():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    judge = EndpointJudge(Endpoint(MODEL, f"http://127.0.0.1:{port}/v1", backoff=Backoff(9, 0.001)))
    with pytest.raises(UserError, match=r"cannot be reached \(.*\) \(3 attempts\); is it running\? check"):
        judge.compare(PROMPTS, LONG, SHORT)
    assert judge.usage.requests == 3


def test_a_page_that_is_no_api_is_said(server):
    server.acts = ["html"] * 4
    with pytest.raises(UserError, match=r"no chat completion \(4 attempts\); check --judge_base_url"):
        judge_of(server).compare(PROMPTS, LONG, SHORT)
    assert len(server.asked) == 4


def test_without_a_key_the_public_endpoint_is_not_asked(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY: is not set; set it, or name your own server"):
        Endpoint(MODEL)
    with pytest.raises(UserError, match="must begin with http"):
        Endpoint(MODEL, "localhost:8000/v1")


def test_the_environment_names_the_endpoint(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert winners(EndpointJudge(Endpoint(MODEL)).compare(["p"], ["long"], ["s"])) == ["A"]


def test_a_reply_without_a_verdict_is_asked_again_with_a_reminder(server):
    server.acts = [("say", "I cannot decide."), ("say", "")]
    judge = judge_of(server)
    assert winners(judge.compare(["p"], ["long"], ["s"])) == ["A"]
    assert len(server.asked) == 3
    second, third = server.asked[1]["messages"], server.asked[2]["messages"]
    assert [message["role"] for message in second[-2:]] == ["assistant", "user"]
    assert second[-2]["content"] == "I cannot decide."
    assert "Verdict: tie" in second[-1]["content"]
    assert third[-2]["content"] == "(nothing)"


@pytest.mark.parametrize("reply", ["", "I like both in their way.", "[[A]] or [[B]]"])
def test_what_never_holds_a_verdict_is_unparsed_and_paid_once(server, tmp_path, reply):
    server.says = lambda body: reply
    judge = judge_of(server, AnswerCache(tmp_path / "cache.jsonl"))
    verdicts = judge.compare(["p", "q"], ["long", "long"], ["s", "s"])
    assert [(verdict.winner, verdict.parsed) for verdict in verdicts] == [("tie", False)] * 2
    assert len(server.asked) == 6
    again = judge_of(server, AnswerCache(tmp_path / "cache.jsonl"))
    assert again.compare(["p", "q"], ["long", "long"], ["s", "s"]) == verdicts
    assert len(server.asked) == 6


def test_a_reply_that_was_cut_off_says_so(server):
    server.acts = [("cut_off", "Let me think about")] * 3
    (verdict,) = judge_of(server).compare(["p"], ["long"], ["s"])
    assert not verdict.parsed
    assert verdict.reason.endswith("(cut off: raise --judge_max_tokens)")


def test_contents_of_other_forms_are_read(server):
    server.acts = [("message", {"content": [{"type": "text", "text": "Verdict: B"}]}), ("message", {"content": None})]
    judge = judge_of(server, concurrency=1, second_chances=0, prices=Prices(1, 1))
    verdicts = judge.compare(["p", "q"], ["long", "long"], ["s", "s"])
    assert [(verdict.winner, verdict.parsed) for verdict in verdicts] == [("B", True), ("tie", False)]
    assert judge.usage.uncounted == 2
    assert judge.usage.describe().endswith("cost at least 0.0000; 2 answers came without token counts")


def test_a_refused_pair_is_unparsed_and_the_others_are_judged(server):
    too_long = (400, "maximum context length is 10 tokens", None)
    server.acts = [None, too_long]
    judge = judge_of(server, concurrency=1)
    verdicts = judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])
    assert [verdict.parsed for verdict in verdicts] == [True, False, True]
    assert verdicts[1].reason == "the endpoint answered 400 (maximum context length is 10 tokens)"
    assert len(server.asked) == 3


def test_an_endpoint_that_refuses_everything_stops(server):
    server.acts = [(400, "bad request", None)] * 20
    with pytest.raises(UserError, match=r"the endpoint answered 400 \(bad request\), and so to 3 requests"):
        judge_of(server).compare(PROMPTS, LONG, SHORT)
    assert len(server.asked) == 3


def test_parameters_that_a_model_does_not_take_are_left_out(server):
    server.acts = [
        (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens"),
        (400, "Unsupported value: 'temperature' does not support 0.", None),
    ]
    judge = judge_of(server)
    assert winners(judge.compare(PROMPTS, LONG, SHORT)) == ["A"] * 12
    assert len(server.asked) == 14
    assert {"max_completion_tokens"} == set(server.asked[-1]) - {"model", "messages"}


def test_concurrency_is_bounded_and_used(server):
    server.hold_after = 1
    judge = judge_of(server, concurrency=3)
    judging = threading.Thread(target=judge.compare, args=(PROMPTS, LONG, SHORT))
    judging.start()
    wait_until(lambda: server.at_once == 3)
    server.released.set()
    judging.join(100)
    assert server.most_at_once == 3
    assert len(server.answered) == 12


def test_the_key_of_an_answer_holds_all_that_shapes_it(server, tmp_path):
    cache = AnswerCache(tmp_path / "cache.jsonl")
    ask: Any = {"prompts": ["p"], "answers_a": ["long"], "answers_b": ["s"]}
    template = Template(PLAIN, "t")
    judge_of(server, cache).compare(**ask)
    for change in (
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(max_tokens=7)},
        {"sampling": Sampling(seed=1)},
        {"template": template},
    ):
        before = len(server.asked)
        judge_of(server, cache, **change).compare(**ask)
        assert len(server.asked) == before + 1, change
    judge_of(server, cache).compare(["p"], ["s"], ["long"])
    assert len(server.asked) == 6
    judge_of(server, cache).compare(**ask)
    assert len(server.asked) == 6


def test_a_template_may_show_a_column_of_the_data(server):
    judge = judge_of(server, template=Template(f"{{{{prompt}}}} {{{{reference}}}} {PLAIN}", "t"))
    assert judge.reads_columns
    both = judge_both_orders(judge, ["p", "q"], ["long", "s"], ["s", "long"], {"reference": ["right one", 7]})
    assert winners(both.verdicts) == ["A", "B"]
    assert {body["messages"][0]["content"].split(" | ")[0] for body in server.asked} == {"p right one", "q 7"}
    with pytest.raises(UserError, match=r"t: \{\{reference\}\} is no column of the data; there are"):
        judge.compare(["p"], ["a"], ["b"])
    with pytest.raises(UserError, match="column reference has 1 values for 2 prompts"):
        judge.compare(["p", "q"], ["a", "a"], ["b", "b"], columns={"reference": ["x"]})
