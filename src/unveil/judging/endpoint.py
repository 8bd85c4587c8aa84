"""One chat completion from an OpenAI-compatible endpoint, and what to do when it does not come.

Waits and attempts are ours, not the client's, so that every request is counted, a pause that one thread is told to
make holds for all, and a wrong key or address stops at once. A reply ends in time and has a largest size, and the key
is taken out of whatever the endpoint says before anybody sees it.
"""

import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unveil.errors import UserError, how_to_install
from unveil.judging.answer_cache import Reply
from unveil.judging.bounded_http import TooMuchError, bounded_client
from unveil.judging.retrying import Backoff, Pause, retry_after
from unveil.judging.secrets_in_text import Secrets, without_credentials
from unveil.judging.threads import StoppedError
from unveil.judging.usage import Meter
from unveil.judging.whole_text import whole_text

PUBLIC = "https://api.openai.com/v1"
# A server that never answered is more likely not there than busy.
_TRIES_BEFORE_FIRST_CONTACT = 3
# What `reach` waits, in seconds: for one reply, and in all before another attempt.
_REPLY_WITHIN, _ATTEMPTS_WITHIN = 5.0, 5.0
TOO_MUCH = "too_much"  # the finish_reason of a reply that was larger than any verdict: it is kept without its text


class RefusalError(Exception):
    """The endpoint will not answer this one request (too long, filtered); another one it may."""


class NeverAnsweredError(UserError):
    """One request got no whole answer, however often it was sent; the endpoint did take it, and may answer others."""


@dataclass(frozen=True)
class Sampling:
    """How a judge writes: sent with every request, and part of the key of its answers.

    seed: another one asks for another answer to the same question (self-consistency), if the temperature is above 0
    and the endpoint takes one.
    """

    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None

    def parameters(self) -> dict[str, Any]:
        """As the endpoint calls them."""
        values: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return values if self.seed is None else {**values, "seed": self.seed}


@dataclass
class Endpoint:
    """`model` behind `base_url` (None: OPENAI_BASE_URL, else OpenAI itself); the key is that of OPENAI_API_KEY.

    timeout: seconds for one whole answer. answered: whether any answer has come. A user and a password in the address
    are sent and never shown.
    """

    model: str
    base_url: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    timeout: float = 120.0
    backoff: Backoff = field(default_factory=Backoff)
    meter: Meter = field(default_factory=Meter)
    answered: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError(f"judge: an endpoint needs the openai client; {how_to_install('judge')}") from error
        given = (self.base_url or os.environ.get("OPENAI_BASE_URL") or PUBLIC).rstrip("/")
        self.base_url, login = _address(given)
        key = _key()
        self._has_key = bool(key)
        if not self._has_key and self.base_url == PUBLIC:
            raise UserError("OPENAI_API_KEY: is not set; set it, or name your own server with --judge_base_url")
        self._secrets = Secrets([key, *(login or ())])
        http_client, self._deadlines = bounded_client(self.base_url, self.timeout, login)
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
            http_client=http_client,
        )
        self._parameters = self.sampling.parameters()
        self._pause = Pause()

    def reach(self) -> None:
        """Ask for the list of models, which costs nothing. Whatever the server says but a refusal proves nothing.

        Raises:
            UserError: nobody is there, or the key is refused.
        """
        failures, end = 0, time.monotonic() + _ATTEMPTS_WITHIN
        while (failure := self._contact_failure()) is not None:
            failures += 1
            wait = self.backoff.wait(failures)
            if failures >= min(self.backoff.tries, _TRIES_BEFORE_FIRST_CONTACT) or time.monotonic() + wait > end:
                raise self._given_up(failure, failures)
            time.sleep(wait)

    def _contact_failure(self) -> "_NoAnswerError | None":
        """Why nobody answers at the address, or None."""
        import openai

        seconds = min(self.timeout, _REPLY_WITHIN)
        try:
            with self._deadlines.within(seconds):
                self._client.models.with_raw_response.list(timeout=seconds)
        except openai.APIConnectionError as error:  # or a time-out, which is one when connecting
            failure = self._connection_failure(error)
            return failure if failure.no_contact else None
        except openai.APIStatusError as error:
            # A key that may ask a model and not list them is told which scope it lacks.
            if error.status_code in (401, 403) and "scope" not in self._said(error):
                raise self._status_failure(error, {}) from error
        except (openai.OpenAIError, TooMuchError, ValueError, RecursionError):  # not what the client expects
            pass
        return None

    def complete(self, messages: Sequence[dict[str, str]], stop: threading.Event) -> Reply:
        """The reply to one conversation.

        Raises:
            RefusalError: this request is refused, others need not be.
            StoppedError: `stop` was set before an answer came.
            NeverAnsweredError: it was taken each time, and no whole answer came in time, or none that can be read.
            UserError: wrong key, address or model; or no answer after all attempts.
        """
        failures, wait = 0, 0.0
        while True:
            self._pause.wait(stop, wait)
            if stop.is_set():
                raise StoppedError
            try:
                reply = self._request(messages)
            except _NoAnswerError as failure:
                failures += 1
                wait = self._wait_after(failure, failures)
                continue
            except _AdaptedError:
                continue
            self.answered = True
            self.meter.answered(reply.prompt_tokens, reply.completion_tokens)
            return reply

    def _wait_after(self, failure: "_NoAnswerError", failures: int) -> float:
        tries = self.backoff.tries
        if failure.no_contact and not self.answered:
            tries = min(tries, _TRIES_BEFORE_FIRST_CONTACT)
        if failures >= tries:
            raise self._given_up(failure, failures)
        if failure.wait is None:
            return self.backoff.wait(failures)
        if failure.wait > self.backoff.longest:
            raise UserError(
                f"judge {self.model}: {self.base_url} {failure} and asks to wait {failure.wait:.0f} s; run again then"
            )
        self._pause.ask_for(failure.wait)
        return failure.wait

    def _given_up(self, failure: "_NoAnswerError", failures: int) -> UserError:
        again = f" ({failures} attempts)" if failures > 1 else ""
        kind = NeverAnsweredError if failure.one_request else UserError
        return kind(f"judge {self.model}: {self.base_url} {failure}{again}; {failure.remedy}")

    def _request(self, messages: Sequence[dict[str, str]]) -> Reply:
        import openai

        sent = dict(self._parameters)
        self.meter.sent()
        chat: Any = self._client.chat.completions.with_raw_response
        try:
            with self._deadlines.within(self.timeout):
                raw = chat.create(model=self.model, messages=list(messages), **sent)
            return self._reply(json.loads(raw.http_response.content))
        except TooMuchError as error:
            return self._too_much(error)
        except openai.APITimeoutError as error:
            raise _NoAnswerError(f"gave no answer within {self.timeout:g} s", one_request=True) from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, TooMuchError):
                return self._too_much(error.__cause__)
            raise self._connection_failure(error) from error
        except openai.APIStatusError as error:
            raise self._status_failure(error, sent) from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            what = "gave an answer that is no chat completion"
            raise _NoAnswerError(what, remedy=_ADDRESS, one_request=True) from error

    def _too_much(self, error: TooMuchError) -> Reply:
        """What is kept of a reply that is larger than any verdict: asking again would cost as much."""
        return Reply(f"the reply {error}", finish_reason=TOO_MUCH)

    def _status_failure(self, error: Any, sent: dict[str, Any]) -> Exception:
        """What a 4xx or 5xx response means."""
        status, said = error.status_code, self._said(error)
        where = f"judge {self.model}: {self.base_url} answered {status}"
        if status in (401, 403):
            remedy = "check OPENAI_API_KEY" if self._has_key else "OPENAI_API_KEY is not set; set it"
            return UserError(f"{where}{said}; {remedy}")
        if status == 404:
            return UserError(f"{where}{said}; check --judge_model, and --judge_base_url, which mostly ends in /v1")
        if status == 402 or error.code == "insufficient_quota":
            return UserError(f"{where}{said}; the account has nothing left, mend that and run again")
        if status in (408, 409, 425, 429) or status >= 500:
            wait = retry_after(error.response.headers)
            return _NoAnswerError(f"answered {status}{said}", wait, one_request=status == 500)
        if status in (400, 422) and self._adapt(error, sent):
            return _AdaptedError()
        if status in (400, 413, 422):
            return RefusalError(f"the endpoint answered {status}{said}")
        return UserError(f"{where}{said}; {_ADDRESS}")

    def _adapt(self, error: Any, sent: dict[str, Any]) -> bool:
        """Newer models want `max_completion_tokens`, and some take no temperature or seed: go on as they want."""
        said = str(error.message).lower()
        if "unsupported" not in said and "not supported" not in said:
            return False
        name = error.param if error.param in sent else next((name for name in sent if f"'{name}'" in said), None)
        if name is None:
            return False
        value = self._parameters.pop(name, None)
        if name == "max_tokens" and value is not None:
            self._parameters["max_completion_tokens"] = value
        return True

    def _connection_failure(self, error: Exception) -> "_NoAnswerError":
        cause = error.__cause__
        if "Connect" in type(cause).__name__:
            reason = self._secrets.hide(" ".join(str(cause).split())) or type(cause).__name__
            return _NoAnswerError(f"cannot be reached ({reason})", no_contact=True, remedy=f"is it running? {_ADDRESS}")
        return _NoAnswerError("cut the connection")

    def _said(self, error: Any) -> str:
        """The endpoint's own words, in one line, without the key."""
        body = error.body
        said = body.get("message") or body.get("detail") or body.get("error") if isinstance(body, dict) else None
        text = self._secrets.hide(whole_text(" ".join(str(said).split()))).rstrip(".") if said else ""
        return f" ({text[:200]})" if text else ""

    def _reply(self, body: Any) -> Reply:
        choice = body["choices"][0]
        content = choice["message"].get("content")
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
        if not isinstance(content, str | None):
            raise TypeError("content is no text")
        usage = body.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        reason = choice.get("finish_reason")
        return Reply(
            text=self._secrets.hide(content or ""),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            finish_reason=self._secrets.hide(reason) if isinstance(reason, str) and reason != TOO_MUCH else None,
        )


class _AdaptedError(Exception):
    """The request is to be sent again with other parameters."""


class _NoAnswerError(Exception):
    """No answer this time; asking again may help. `wait` is what the endpoint asks for, in seconds.

    one_request: the fault may be this request's alone.
    """

    def __init__(
        self,
        what: str,
        wait: float | None = None,
        no_contact: bool = False,
        remedy: str = "run the same command again later",
        one_request: bool = False,
    ) -> None:
        super().__init__(what)
        self.wait, self.no_contact, self.remedy, self.one_request = wait, no_contact, remedy, one_request


_ADDRESS = "check --judge_base_url (or OPENAI_BASE_URL), which mostly ends in /v1"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def _key() -> str | None:
    """The key in the environment. Raises UserError for one that no server could be sent."""
    key = (os.environ.get("OPENAI_API_KEY") or "").strip()
    if any(not 32 < ord(letter) < 127 for letter in key):
        raise UserError("OPENAI_API_KEY: holds a space or a character that no key has; copy it again")
    return key or None


def _address(given: str) -> tuple[str, tuple[str, str] | None]:
    """The address without user and password, and the two."""
    try:
        address, login = without_credentials(given)
    except ValueError as error:
        raise UserError("--judge_base_url: is no address; give one such as http://localhost:8000/v1") from error
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--judge_base_url {address}: must begin with http:// or https://")
    return address, login
