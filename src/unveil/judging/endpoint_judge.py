"""A judge behind an OpenAI-compatible endpoint: it reads both answers in one text and writes a reason and a verdict.

Every reply is in the cache's file as soon as it arrives, and is read from there ever after: an interrupted comparison
goes on where it stopped, and the same question is never paid twice, by several processes on one cache neither.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from unveil.errors import UserError, warn_user
from unveil.judging.answer_cache import AnswerCache, Reply, content_key
from unveil.judging.columns import rows_of
from unveil.judging.endpoint import TOO_MUCH, Endpoint, NeverAnsweredError, RefusalError
from unveil.judging.judge import Columns, Verdict
from unveil.judging.template import Template, shipped_template, shipped_text
from unveil.judging.template_judge import TemplateJudge
from unveil.judging.threads import StoppedError, in_threads
from unveil.judging.usage import Usage
from unveil.judging.verdict_text import read_verdict

_REFUSALS_BEFORE_ANY_ANSWER = 3
_SAME = Verdict("tie", "the answers are the same", asked=False)


@dataclass
class EndpointJudge(TemplateJudge):
    """Asks `endpoint` about each pair, in up to `concurrency` threads.

    second_chances: how often a reply without a verdict is answered with a reminder; after that the verdict is
    unparsed, and so is that on a pair which the endpoint refuses, or alone does not answer in time. Two equal answers
    tie without a question.
    """

    endpoint: Endpoint
    template: Template = field(default_factory=lambda: shipped_template("pairwise"))
    cache: AnswerCache = field(default_factory=AnswerCache)
    concurrency: int = 8
    second_chances: int = 2
    name: str = ""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UserError(f"--judge_concurrency {self.concurrency}: at least 1 is needed")
        if self.second_chances < 0:
            raise UserError(f"second_chances {self.second_chances}: give 0 or more")
        self.name = self.name or self.endpoint.model
        self._reminder = shipped_text("reminder").strip()

    @property
    def usage(self) -> Usage:
        """What this judge has asked and spent since it was made."""
        return self.endpoint.meter.usage

    def check_in(self) -> None:
        """Reach the endpoint once, for nothing, before work is done that an endpoint out of reach would waste.

        Whoever has replies in the cache may need no other: then what is wrong is a warning.

        Raises:
            UserError: the endpoint cannot be reached or refuses the key, and the cache is empty.
        """
        try:
            self.endpoint.reach()
        except UserError as error:
            if len(self.cache) == 0:
                raise
            warn_user(f"{error} (going on with the {len(self.cache)} answers kept in {self.cache.path})")

    def compare(
        self,
        prompts: Sequence[str],
        answers_a: Sequence[str],
        answers_b: Sequence[str],
        columns: Columns | None = None,
    ) -> list[Verdict]:
        """One verdict per prompt; equal questions are asked once.

        Raises:
            UserError: the endpoint cannot be used, or stopped answering. What it answered is in the cache.
        """
        rows = rows_of(columns, len(prompts))
        questions: dict[str, list[dict[str, str]]] = {}
        keys: list[str | None] = []
        for prompt, a, b, row in zip(prompts, answers_a, answers_b, rows, strict=True):
            if a == b:
                keys.append(None)
                continue
            messages = self.template.messages(prompt, a, b, row)
            keys.append(content_key(messages=messages))
            questions[keys[-1] or ""] = messages
        verdicts = self._ask_all(questions)
        return [_SAME if key is None else verdicts[key] for key in keys]

    def _ask_all(self, questions: Mapping[str, list[dict[str, str]]]) -> dict[str, Verdict]:
        asking = _Asking(self, questions)
        left = list(questions)
        try:
            # One at a time until the endpoint has answered: a wrong key or address costs one request, not many.
            while left and not self.endpoint.answered:
                in_threads(asking.ask, [left.pop(0)], 1, asking.stop)
                asking.require_any_answer()
            title = f"judging with {self.name}"
            in_threads(asking.ask, left, self.concurrency, asking.stop, title=title)
            # What another process was asking: its answers are waited for.
            in_threads(asking.ask_or_wait, asking.claimed_elsewhere, self.concurrency, asking.stop, title=title)
        except UserError as error:
            raise UserError(f"{error}{self._kept()}") from error
        return asking.verdicts

    def _kept(self) -> str:
        if self.cache.path is None or len(self.cache) == 0:
            return ""
        return f" ({len(self.cache)} answers are kept in {self.cache.path})"

    def verdict(self, messages: list[dict[str, str]], stop: threading.Event, wait: bool) -> Verdict | None:
        """The verdict on one question; None (never with `wait`) if another process is asking it now."""
        verdict, conversation = Verdict("tie", parsed=False), messages
        for chance in range(1 + self.second_chances):
            reply = self._reply(conversation, chance, stop, wait or chance > 0)
            if reply is None:
                return None
            if reply.finish_reason == TOO_MUCH:
                return Verdict("tie", reply.text, parsed=False)
            verdict = read_verdict(reply.text)
            if verdict.parsed:
                return verdict
            if reply.finish_reason == "length":
                verdict = Verdict("tie", f"{verdict.reason} (cut off: raise --judge_max_tokens)", parsed=False)
            conversation = [
                *messages,
                {"role": "assistant", "content": reply.text.strip() or "(nothing)"},
                {"role": "user", "content": self._reminder},
            ]
        return verdict

    def _reply(self, messages: list[dict[str, str]], chance: int, stop: threading.Event, wait: bool) -> Reply | None:
        key = content_key(
            model=self.endpoint.model,
            base_url=self.endpoint.base_url,
            sampling=asdict(self.endpoint.sampling),
            messages=messages,
            chance=chance,
        )
        reply = self.cache.get(key)
        if reply is None:
            with self.cache.claim(key, stop, wait) as held:
                if not held:
                    if wait:
                        raise StoppedError
                    return None
                reply = self.cache.get(key)
                if reply is None:
                    reply = self.endpoint.complete(messages, stop)
                    self.cache.put(key, reply)
                    return reply
        self.endpoint.meter.taken()
        return reply


class _Asking:
    """The questions of one call, and what became of them so far."""

    def __init__(self, judge: EndpointJudge, questions: Mapping[str, list[dict[str, str]]]) -> None:
        self.judge, self.questions = judge, questions
        self.verdicts: dict[str, Verdict] = {}
        self.claimed_elsewhere: list[str] = []
        self.stop = threading.Event()
        self._refusals: list[str] = []
        self._unanswered: str | None = None  # the last thing that happened: a question without an answer

    def ask(self, key: str) -> None:
        """Ask one question, or put it by if another process is asking it."""
        self._ask(key, wait=False)

    def ask_or_wait(self, key: str) -> None:
        """Ask one question; if another process is asking it, wait for what it is told."""
        self._ask(key, wait=True)

    def require_any_answer(self) -> None:
        """Raise UserError if the endpoint has refused several requests and answered none."""
        if len(self._refusals) >= _REFUSALS_BEFORE_ANY_ANSWER and not self.judge.endpoint.answered:
            last, count = self._refusals[-1], len(self._refusals)
            raise UserError(f"judge {self.judge.name}: {last}, and so to {count} requests; mend them")

    def _ask(self, key: str, wait: bool) -> None:
        try:
            verdict = self.judge.verdict(self.questions[key], self.stop, wait)
        except RefusalError as refusal:
            verdict = Verdict("tie", str(refusal), parsed=False)
            self._refusals.append(str(refusal))
        except NeverAnsweredError as error:
            # One question may keep a judge busy for ever or break it; two in a row, or the first: the endpoint is down.
            if self._unanswered is not None or len(self.judge.cache) == 0:
                raise
            self._unanswered = key
            verdict = Verdict("tie", str(error), parsed=False)
        else:
            self._unanswered = None
        if verdict is None:
            self.claimed_elsewhere.append(key)
        else:
            self.verdicts[key] = verdict
