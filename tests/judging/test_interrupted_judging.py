"""Judging that is interrupted or killed: what arrived is kept, and the next run pays for the rest only."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripted_endpoint import (
    LONG,
    MODEL,
    PROMPTS,
    SHORT,
    Script,
    judge_of,
    wait_until,
    winners,
)

from unveil.errors import UserError
from unveil.judging.answer_cache import AnswerCache

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("api_key")


def run_elsewhere(server: Script, cache: Path, concurrency: int = 2) -> subprocess.Popen:
    """Judge the twelve pairs in another process."""
    code = f"""
import signal
import sys
from unveil.errors import UserError
from unveil.judging.answer_cache import AnswerCache
from unveil.judging.endpoint import Endpoint
from unveil.judging.endpoint_judge import EndpointJudge
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
judge = EndpointJudge(Endpoint({MODEL!r}, {server.url!r}), cache=AnswerCache({str(cache)!r}), concurrency={concurrency})
try:
    judge.compare({PROMPTS!r}, {LONG!r}, {SHORT!r})
except KeyboardInterrupt:
    sys.exit(130)
"""
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_ctrl_c_waits_for_what_is_under_way_and_the_next_run_pays_for_the_rest_only(server, tmp_path):
    server.hold_after = 3
    path = tmp_path / "cache.jsonl"
    process = run_elsewhere(server, path)
    assert process.stderr
    wait_until(lambda: len(server.asked) == 5)
    process.send_signal(signal.SIGINT)
    assert "waiting for what is under way (2 at most)" in process.stderr.readline()
    server.released.set()
    assert process.wait(100) == 130
    process.stderr.close()
    assert len(server.asked) == len(server.answered) == 5
    judge = judge_of(server, AnswerCache(path))
    assert winners(judge.compare(PROMPTS, LONG, SHORT)) == ["A"] * 12
    assert (judge.usage.requests, judge.usage.cached) == (7, 5)


def test_a_kill_loses_at_most_what_was_under_way(server, tmp_path):
    server.hold_after = 3
    path = tmp_path / "cache.jsonl"
    process = run_elsewhere(server, path)
    assert process.stderr
    wait_until(lambda: len(server.asked) == 5)
    process.kill()
    process.wait(100)
    process.stderr.close()
    assert len(path.read_text().splitlines()) == 3
    server.released.set()
    judge = judge_of(server, AnswerCache(path))
    assert winners(judge.compare(PROMPTS, LONG, SHORT)) == ["A"] * 12
    assert (judge.usage.requests, judge.usage.cached) == (9, 3)


def test_an_error_in_one_thread_keeps_what_the_others_receive(server, tmp_path):
    server.hold_after = 1
    server.acts = [None, None, 401, None, None]
    judge = judge_of(server, AnswerCache(tmp_path / "cache.jsonl"), concurrency=4)
    threading.Thread(target=lambda: (wait_until(lambda: server.at_once == 4), server.released.set())).start()
    with pytest.raises(UserError, match="answered 401"):
        judge.compare(PROMPTS, LONG, SHORT)
    assert len(server.answered) >= 4
    assert len(AnswerCache(tmp_path / "cache.jsonl")) == len(server.answered)
