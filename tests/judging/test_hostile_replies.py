"""Whatever an endpoint sends: it ends in time, it fits into memory, and one reply never ends a comparison."""

import json
import time

import pytest
from scripted_endpoint import LONG, PROMPTS, SHORT, judge_of, winners

from unveil.cli.output import write_rows
from unveil.errors import UserError
from unveil.judging import judge_answers
from unveil.judging.answer_cache import AnswerCache, Reply

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("api_key")


@pytest.mark.parametrize("act", ["trickle", "trickle_headers"])
def test_a_reply_that_trickles_is_given_up_after_the_time_limit(server, act):
    server.acts = [None, act]
    judge = judge_of(server, concurrency=1, timeout=0.5)
    start = time.monotonic()
    assert winners(judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])) == ["A"] * 3
    assert time.monotonic() - start < 8
    assert len(server.asked) == 4


@pytest.mark.parametrize("act", ["flood", "bomb"])
def test_a_reply_that_floods_is_stopped_counted_as_unread_and_not_paid_again(server, act, tmp_path):
    server.acts = [None, act]
    cache = AnswerCache(tmp_path / "cache.jsonl")
    judge = judge_of(server, cache, concurrency=1)
    verdicts = judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])
    assert [verdict.parsed for verdict in verdicts] == [True, False, True]
    assert verdicts[1].reason == "the reply is larger than 16 MiB"
    again = judge_of(server, AnswerCache(tmp_path / "cache.jsonl"))
    assert again.compare(PROMPTS[:3], LONG[:3], SHORT[:3]) == verdicts
    assert len(server.asked) == 3


def test_one_question_that_never_ends_is_unread_and_two_in_a_row_stop(server):
    judge = judge_of(server, concurrency=1, timeout=0.3)
    server.acts = [None, *["trickle"] * 4]
    verdicts = judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])
    assert [verdict.parsed for verdict in verdicts] == [True, False, True]
    assert "gave no answer within 0.3 s (4 attempts)" in verdicts[1].reason
    server.acts = ["trickle"] * 8
    with pytest.raises(UserError, match=r"gave no answer within 0.3 s \(4 attempts\).*2 answers|gave no answer"):
        judge.compare(PROMPTS[3:6], LONG[3:6], SHORT[3:6])
    assert not server.acts, "the second question in a row stopped it"


@pytest.mark.parametrize(
    ("act", "said"),
    [(("raw", b'{"choices":' + b"[" * 100_000), "gave an answer that is no chat completion"), (500, "answered 500")],
    ids=["deep", "500"],
)
def test_one_question_that_breaks_the_endpoint_is_unread_and_the_others_are_judged(server, act, said):
    judge = judge_of(server, concurrency=1)
    server.acts = [None, *[act] * 4]
    verdicts = judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])
    assert [verdict.parsed for verdict in verdicts] == [True, False, True]
    assert said in verdicts[1].reason
    server.acts = [act] * 8
    with pytest.raises(UserError, match=said):
        judge.compare(PROMPTS[3:6], LONG[3:6], SHORT[3:6])
    assert not server.acts, "the second question in a row stopped it"


def test_half_a_character_in_a_reply_is_replaced_and_can_be_written(server, tmp_path):
    said = json.dumps({"reason": "half an emoji: \ud83d", "verdict": "A"})
    server.says = lambda body: said
    judgement = judge_answers(judge_of(server, AnswerCache(tmp_path / "c")), ["p"], ["\ud800a"], ["b"])
    assert judgement.verdicts[0].reason.count("half an emoji: \ufffd") >= 1
    write_rows(tmp_path / "rows.jsonl", judgement.rows())
    assert json.loads((tmp_path / "rows.jsonl").read_text())["answer_a"] == "\ufffda"


def test_kept_replies_of_any_form_are_read(tmp_path):
    path = tmp_path / "cache.jsonl"
    lines = [
        '{"key": "half", "text": "\\ud83d Verdict: A"}',
        '{"key": "deep", "text": ' + "[" * 100_000,
        '{"key": "number", "text": ' + "9" * 10_000 + "}",
        '{"key": "good", "text": "Verdict: B", "finish_reason": "stop"}',
    ]
    path.write_text("\n".join(lines) + "\n")
    cache = AnswerCache(path)
    assert cache.get("half") == Reply("\ufffd Verdict: A")
    assert cache.get("good") == Reply("Verdict: B", finish_reason="stop")
    assert cache.passed_over == 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"choices":' + b"9" * 10_000 + b"}",
        b"null",
        b"[]",
        b"",
        b'{"choices":[{"message":null}]}',
        b"\xff\xfe",
    ],
    ids=["deep", "digits", "null", "list", "empty", "message", "bytes"],
)
def test_a_body_of_any_form_is_tried_again(server, body):
    server.acts = [None, ("raw", body)]
    judge = judge_of(server, concurrency=1)
    assert winners(judge.compare(PROMPTS[:3], LONG[:3], SHORT[:3])) == ["A"] * 3
    assert len(server.asked) == 4


def test_fields_of_any_form_around_a_verdict_do_no_harm(server):
    choice = {"message": {"content": ["x", {"text": "Verdict: A"}]}, "finish_reason": {"a": 1}}
    usage = {"prompt_tokens": -(10**9), "completion_tokens": True}
    server.acts = [("raw", json.dumps({"choices": [choice], "usage": usage}).encode())]
    judge = judge_of(server)
    assert winners(judge.compare(["p"], ["a"], ["b"])) == ["A"]
    assert (judge.usage.prompt_tokens, judge.usage.completion_tokens, judge.usage.uncounted) == (0, 0, 1)
