"""An OpenAI-compatible endpoint on loopback that misbehaves as scripted."""

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from unveil.judging.answer_cache import AnswerCache
from unveil.judging.endpoint import Endpoint
from unveil.judging.endpoint_judge import EndpointJudge
from unveil.judging.retrying import Backoff
from unveil.judging.usage import Meter

QUICK = Backoff(tries=4, first=0.001, longest=2.0)
PROMPTS = [f"question {number}" for number in range(12)]
LONG = [f"a much longer answer {number}" for number in range(12)]
SHORT = [f"short {number}" for number in range(12)]
KEY = "a-good-key"
MODEL = "scripted-judge"


def answers_in(body: dict[str, Any]) -> tuple[str, str]:
    """Answers A and B in the shipped template's text."""
    text = next(message["content"] for message in body["messages"] if message["role"] == "user")
    found = re.search(r"\[Answer A\]\n(.*?)\n\[End of answer A\].*\[Answer B\]\n(.*?)\n\[End of answer B\]", text, re.S)
    assert found, text
    return found[1], found[2]


def longer(body: dict[str, Any]) -> str:
    """The verdict of a judge that likes length and nothing else."""
    a, b = answers_in(body)
    winner = "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
    return json.dumps({"reason": f"{len(a)} against {len(b)}", "verdict": winner})


@dataclass
class Script:
    """`acts` are played for the first requests, in order of arrival; then `says` answers every one.

    An act is a status code, (status, headers), or "malformed", "html", "no_choices", "cut", "half", "hang", "trickle",
    "trickle_headers", "flood", "bomb", or ("say", text), or ("raw", bytes).
    `asked` are the bodies that arrived, `answered` those that a completion was sent for (and paid).
    `lists` is the status (and the words of an error) that a GET is answered with, `listed` how many came.
    From request number `hold_after` on, nothing is answered before `released`.
    """

    acts: list[Any] = field(default_factory=list)
    says: Callable[[dict[str, Any]], str] = longer
    hold_after: int | None = None
    released: threading.Event = field(default_factory=threading.Event)
    usage: bool = True
    lists: tuple[int, str] = (200, "")
    listed: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def next_act(self, body: dict[str, Any]) -> Any:
        """What to do with a request that has come."""
        with self.lock:
            self.asked.append(body)
            held = self.hold_after is not None and len(self.asked) > self.hold_after
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            act = self.acts.pop(0) if self.acts else None
        if held:
            self.released.wait(200)
        return act


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.script.lock:
            self.script.listed += 1
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self._send(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
        status, message = self.script.lists
        return self._send(status, {"object": "list", "data": []} if status == 200 else {"error": {"message": message}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        act = self.script.next_act(body)
        try:
            self._play(act, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.script.lock:
                self.script.at_once -= 1

    def _play(self, act: Any, body: dict[str, Any]) -> None:
        if not self.path.startswith("/v1/"):
            return self._send(404, {"detail": "Not Found"})
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self._send(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
        if body["model"] != MODEL:
            return self._send(404, {"error": {"message": f"The model '{body['model']}' does not exist"}})
        if isinstance(act, int):
            return self._send(act, {"error": {"message": f"scripted {act}"}})
        match act:
            case None:
                self._complete(body, self.script.says(body))
            case ("say", text):
                self._complete(body, text)
            case ("message", message):
                self._send(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
            case ("cut_off", text):
                self._complete(body, text, "length")
            case (int(status), dict(headers)):
                self._send(status, {"error": {"message": f"scripted {status}"}}, headers)
            case (int(status), str(message), param):
                error = {"message": message, "param": param, "code": "unsupported_parameter" if param else None}
                self._send(status, {"error": error})
            case "malformed":
                self._send(200, b'{"choices": [{"mess')
            case "html":
                self._send(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
            case "no_choices":
                self._send(200, {"choices": []})
            case "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "half":
                self._send(200, b'{"choices": [', {"Content-Length": "4000"})
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case ("raw", bytes(data)):
                self._send(200, data)
            case "trickle" | "trickle_headers" | "flood":
                self._without_end(act)
            case "bomb":
                packed = gzip.compress(b" " * (64 << 20), 1)
                self._send(200, packed, {"Content-Encoding": "gzip"})
            case "hang":
                time.sleep(6.0)
                self.close_connection = True
            case _:
                raise AssertionError(act)
        return None

    def _without_end(self, act: str) -> None:
        self.close_connection = True
        if act == "trickle_headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(400):
                self.wfile.write(b"x-y: z\r\n")
                time.sleep(0.05)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        piece = b" " if act == "trickle" else b" " * 65536
        for _ in range(400 if act == "trickle" else 4000):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(0.05 if act == "trickle" else 0)

    def _complete(self, body: dict[str, Any], text: str, finish_reason: str = "stop") -> None:
        message = {"role": "assistant", "content": text}
        answer: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        }
        if self.script.usage:
            answer["usage"] = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        with self.script.lock:
            self.script.answered.append(body)
        self._send(200, answer)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        standard = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, value in {**standard, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the client left, which these tests want


@contextmanager
def scripted_endpoint() -> Iterator[Script]:
    """A server on a free port of loopback, for as long as the block lasts."""
    script = Script()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": script}))
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()


def judge_of(server: Script, cache: AnswerCache | None = None, **settings: Any) -> EndpointJudge:
    fields: dict[str, Any] = {
        name: settings.pop(name) for name in ("model", "timeout", "sampling", "backoff") if name in settings
    }
    prices = settings.pop("prices", None)
    base_url = settings.pop("base_url", server.url)
    endpoint = Endpoint(
        fields.pop("model", MODEL), base_url, **{"timeout": 60, "backoff": QUICK, "meter": Meter(prices)} | fields
    )
    return EndpointJudge(endpoint, cache=AnswerCache() if cache is None else cache, **settings)


def winners(verdicts):
    return [verdict.winner for verdict in verdicts]


def wait_until(condition, seconds=200.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
