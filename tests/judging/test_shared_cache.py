"""Several processes on one cache pay for no question twice, and the key is in no file and no message."""

import base64
import subprocess
import sys
import threading
from urllib.parse import quote

import pytest
from scripted_endpoint import KEY, LONG, PROMPTS, SHORT, Script, judge_of, winners

from unveil.errors import UserError
from unveil.judging.answer_cache import AnswerCache, Reply
from unveil.judging.endpoint import Endpoint
from unveil.judging.secrets_in_text import Secrets, without_credentials

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("api_key")


def test_two_judges_on_one_file_pay_for_no_question_twice(server: Script, tmp_path):
    path = tmp_path / "cache.jsonl"
    server.hold_after = 2
    judges = [judge_of(server, AnswerCache(path), concurrency=3) for _ in range(2)]
    found: dict[int, list[str]] = {}

    def run(number: int) -> None:
        found[number] = winners(judges[number].compare(PROMPTS, LONG, SHORT))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    threading.Timer(0.5, server.released.set).start()
    for thread in threads:
        thread.join(100)
    assert found == {0: ["A"] * 12, 1: ["A"] * 12}
    assert len(server.asked) == 12
    usage = [judge.usage for judge in judges]
    assert sum(one.requests for one in usage) == 12
    assert sum(one.cached for one in usage) == 12


def test_a_process_that_is_killed_leaves_no_claim(tmp_path):
    path = tmp_path / "cache.jsonl"
    holder = (
        "import threading, time, sys\nfrom unveil.judging.answer_cache import AnswerCache\n"
        f"with AnswerCache({str(path)!r}).claim('k', threading.Event()) as held:\n"
        "    print(held, flush=True)\n    time.sleep(600)\n"
    )
    cache, never = AnswerCache(path), threading.Event()
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        with cache.claim("k", never, wait=False) as held:
            assert not held
        with cache.claim("other", never, wait=False) as held:
            assert held
        process.kill()
    with cache.claim("k", never) as held:
        assert held


def test_what_another_process_was_told_is_there_once_the_claim_is(tmp_path):
    one, other = AnswerCache(tmp_path / "c"), AnswerCache(tmp_path / "c")
    one.put("k", Reply("x"))
    assert other.get("k") is None
    with other.claim("k", threading.Event()) as held:
        assert held
        assert other.get("k") == Reply("x")


SECRET = "sk-proj-0123456789+/ab=cd"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.upper(),
        quote(SECRET, safe=""),
        *(base64.b64encode(b"x" * n + SECRET.encode() + b"y" * n).decode() for n in range(4)),
    ],
)
def test_a_secret_is_hidden_in_every_form(form):
    hidden = Secrets([SECRET, None, "k"]).hide(f"it is {form}, ok")
    assert "[secret]" in hidden
    assert SECRET not in hidden
    assert hidden.startswith("it is ")


def test_a_stand_in_for_a_key_hides_no_words():
    assert Secrets(["none", "k", ""]).hide("none is ok") == "none is ok"


def test_user_and_password_leave_the_address():
    assert without_credentials("http://u:p%40x@h:8/v1") == ("http://h:8/v1", ("u", "p@x"))
    assert without_credentials("http://h/v1") == ("http://h/v1", None)
    endpoint = Endpoint("m", "http://user:password99@localhost:1/v1")
    assert endpoint.base_url == "http://localhost:1/v1"


@pytest.mark.parametrize("act", ["reply", 401, 403, 404, 400, 500])
def test_a_key_that_an_endpoint_sends_back_is_in_no_file_and_no_message(server, tmp_path, act):
    path = tmp_path / "cache.jsonl"
    echoed = f"you sent {KEY} and {quote(KEY)} and {base64.b64encode(KEY.encode()).decode()}"
    judge = judge_of(server, AnswerCache(path))
    if act == "reply":
        server.says = lambda body: f'{{"reason": "{echoed}", "verdict": "A"}}'
        told = judge.compare(["p"], ["a"], ["b"])[0].reason
        assert told.startswith("you sent [secret] and [secret]")
    else:
        server.acts = [(act, echoed, None)] * 4
        with pytest.raises(UserError) as error:
            judge.compare(PROMPTS, LONG, SHORT)
        told = str(error.value)
        assert "you sent [secret]" in told
    assert KEY not in told
    assert KEY not in path.read_text()


@pytest.mark.parametrize("key", ["sk-ab\u00fc-0000000", "sk-one two-000000", "sk-a\nb-00000000"])
def test_a_key_that_cannot_be_sent_is_said_without_it(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY: holds a space or a character that no key has") as error:
        Endpoint("m", "http://localhost:1/v1")
    assert key not in str(error.value)
