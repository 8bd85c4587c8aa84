"""The model class that lm-eval knows as `unveil`: a masked diffusion language model behind lm-eval's three questions.

Importing this file imports lm-eval; nothing else in the package does so before it is needed. With lm-eval's own command
line, import it first: `python -c "import unveil.evaluation.model; from lm_eval.__main__ import cli_evaluate as run;
run()" --model unveil --model_args pretrained=...`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from rich.console import Console
from rich.progress import track
from transformers import PreTrainedTokenizerBase

from unveil.errors import UserError, warn_user
from unveil.evaluation.answers import Question, answer_questions, end_ids, sampler_config, stop_strings
from unveil.evaluation.likelihoods import Estimate, Target, greedy_matches, score_targets
from unveil.evaluation.loading import load_model
from unveil.evaluation.request_cache import RequestCache
from unveil.evaluation.settings import ModelSettings, parse_model_args, settings_of
from unveil.evaluation.windows import rolling_targets, total
from unveil.models import Denoiser
from unveil.time_limit import SECONDS_OF_A_TEMPLATE, time_limit

_GROUP = 64  # requests that are answered before the cache is written
T = TypeVar("T")

Place = tuple[str | None, int | None, int]
"""Task, document and option (the instance's `idx`) of a request."""


class UnveilLM(LM):
    """Likelihoods by Monte-Carlo ELBO, answers by unmasking.

    `estimates` holds the ELBO and standard error of every likelihood request by (task, document, option).
    """

    def __init__(self, pretrained: str | None = None, **options: Any) -> None:
        super().__init__()
        settings = settings_of({"pretrained": pretrained, **options})
        self._settle(*load_model(settings), settings, RequestCache())

    @classmethod
    def around(
        cls,
        denoiser: Denoiser,
        tokenizer: PreTrainedTokenizerBase,
        settings: ModelSettings,
        cache: RequestCache | None = None,
        sampler_by_task: Mapping[str, Mapping[str, Any]] | None = None,
        greedy_tasks: frozenset[str] | None = None,
    ) -> "UnveilLM":
        """A model that is loaded already.

        sampler_by_task: sampler options of a preset, which those of the settings win over. greedy_tasks: the tasks
        whose metrics read `is_greedy`; None = answer it for all.
        """
        model = cls.__new__(cls)
        LM.__init__(model)
        model._settle(denoiser, tokenizer, settings, RequestCache() if cache is None else cache)
        model.sampler_by_task = dict(sampler_by_task or {})
        model.greedy_tasks = greedy_tasks
        return model

    def _settle(
        self, denoiser: Denoiser, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings, cache: RequestCache
    ) -> None:
        self.denoiser, self.tokenizer, self.settings, self.cache = denoiser, tokenizer, settings, cache
        self.sampler_by_task: dict[str, Mapping[str, Any]] = {}
        self.greedy_tasks: frozenset[str] | None = None
        self.estimates: dict[Place, Estimate] = {}
        self.truncated = 0
        self._device = denoiser.device
        self.max_length = settings.max_length or denoiser.max_length
        if settings.add_bos_token and tokenizer.bos_token_id is None:
            raise UserError("--model_args add_bos_token=true: the tokenizer has no such token; leave it out")
        self.prefix: tuple[int, ...] = (tokenizer.bos_token_id,) if settings.add_bos_token else ()  # type: ignore[assignment]

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> "UnveilLM":
        """lm-eval's way from `--model_args` to a model."""
        return cls(**parse_model_args(arg_string), **_given(additional_config))

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None):
        """lm-eval's way from a dictionary to a model."""
        return cls(**arg_dict, **_given(additional_config))

    # ------------------------------------------------------------------ lm-eval's three questions
    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(ELBO in nats, is_greedy) of each (context, continuation)."""
        targets = [self._target(*request.args[:2]) for request in requests]
        greedy = [self._wants_greedy(request) for request in requests]
        estimates = self._estimate(targets)
        matches = self._greedy(targets, estimates, greedy)
        for request, estimate, match in zip(requests, estimates, matches):
            self.estimates[(request.task_name, request.doc_id, request.idx)] = estimate._replace(greedy=match)
        self._tell_truncated()
        return [(estimate.value, bool(match)) for estimate, match in zip(estimates, matches)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """ELBO in nats of whole texts, window by window where they are longer than the context."""
        texts = [self._encode(request.args[0]) for request in requests]
        windows = [rolling_targets(ids, self.max_length, self.prefix) for ids in texts]
        flat = self._estimate([target for parts in windows for target in parts])
        values = []
        for request, parts in zip(requests, windows):
            estimate = total(flat[: len(parts)])
            flat = flat[len(parts) :]
            self.estimates[(request.task_name, request.doc_id, request.idx)] = estimate
            values.append(estimate.value)
        return values

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers, cut at the task's stop strings."""
        questions = self._questions(requests)
        ends = end_ids(self.denoiser, self.tokenizer, self.settings)
        special = sorted(map(str, self.tokenizer.all_special_tokens))
        keys = [
            self.cache.key(
                "answer", vars(question.config) | {"ends": ends, "special": special, "until": question.until},
                question.prompt_ids, question.number,
            )
            for question in questions
        ]  # fmt: skip

        def draw(places: list[int]) -> list[dict[str, Any]]:
            drawn = answer_questions(self.denoiser, self.tokenizer, [questions[i] for i in places], self.settings)
            return [{"kind": "answer", "text": text, "tokens": tokens} for text, tokens in drawn]

        found = self._through_cache(keys, draw, "answering", [q.config.gen_length for q in questions])
        self._tell_truncated()
        return [record["text"] for record in found]

    # ------------------------------------------------------------------ chat
    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in lm-eval's own caches."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that `apply_chat_template` uses."""
        return self.tokenizer.chat_template if chat_template else None  # type: ignore[return-value]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as text; without `add_generation_prompt` the last one, an assistant's beginning, is left open."""
        if not self.tokenizer.chat_template:
            raise UserError(
                "--apply_chat_template: the tokenizer has no chat template; leave the flag out, or give one as "
                "--model_args chat_template=FILE"
            )
        try:
            with time_limit(SECONDS_OF_A_TEMPLATE):
                return str(
                    self.tokenizer.apply_chat_template(
                        chat_history,
                        tokenize=False,
                        add_generation_prompt=add_generation_prompt,
                        continue_final_message=not add_generation_prompt,
                    )
                )
        except Exception as error:  # a template is a program of its own
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--apply_chat_template: the chat template refuses a task's text ({reason}); give another one as "
                "--model_args chat_template=FILE"
            ) from error

    # ------------------------------------------------------------------ from text to requests
    def _encode(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.denoiser.mask_token_id in ids:  # type: ignore[operator]
            raise UserError(f"a task's text contains the mask token: {text[:60]!r}; take it out of the data")
        return list(ids)  # type: ignore[arg-type]

    def _target(self, context: str, continuation: str) -> Target:
        """Tokens of context and continuation, split where lm-eval splits them: spaces belong to the continuation.

        Where the joint text is not tokenised as the context is, both are tokenised by themselves.
        """
        bare = context.rstrip()
        continuation = context[len(bare) :] + continuation
        prompt = self._encode(bare) if bare else []
        whole = self._encode(bare + continuation)
        fits = whole[: len(prompt)] == prompt and len(whole) > len(prompt)
        scored = whole[len(prompt) :] if fits else self._encode(continuation)
        if not scored:
            raise UserError(f"a task's answer after {context[-40:]!r} is empty; correct the task")
        return Target(self._room_for(len(scored), prompt, "an answer"), tuple(scored))

    def _room_for(self, tokens: int, prompt: Sequence[int], what: str) -> tuple[int, ...]:
        """The prompt with its prefix, without the beginning that does not fit before `tokens` more."""
        if self.max_length is None:
            return (*self.prefix, *prompt)
        room = self.max_length - tokens - len(self.prefix)
        if room < 0:
            raise UserError(
                f"{what} of {tokens} tokens does not fit the model's {self.max_length}; give a smaller gen_length or "
                "another task"
            )
        self.truncated += len(prompt) > room
        return (*self.prefix, *prompt[max(0, len(prompt) - room) :])

    def _tell_truncated(self) -> None:
        if self.truncated:
            warn_user(
                f"{self.truncated} prompts are longer than the model's {self.max_length} tokens leave room for; "
                "their beginnings were left out"
            )
            self.truncated = 0

    def _questions(self, requests: list[Instance]) -> list[Question]:
        asked: dict[int, int] = {}
        configs: dict[str, Any] = {}
        questions = []
        for request in requests:
            arguments: Any = request.args
            context, options = arguments[0], arguments[1]
            task = str(request.task_name)
            number = asked[id(request)] = asked.get(id(request), -1) + 1  # lm-eval repeats the very same object
            name = f"{task} {sorted(options.items(), key=str)}"
            if name not in configs:
                given = {**self.sampler_by_task.get(task, {}), **self.settings.generation}
                configs[name] = sampler_config(given, options, self.settings.seed, f"task {task}")
            config = configs[name]
            prompt = self._room_for(config.gen_length, self._encode(context), "a canvas")
            questions.append(Question(prompt, config, stop_strings(options.get("until")), number))
        return questions

    # ------------------------------------------------------------------ answers, known or new
    def _estimate(self, targets: Sequence[Target]) -> list[Estimate]:
        keys = [self.cache.key("elbo", self.settings.likelihood_key, *target) for target in targets]

        def score(places: list[int]) -> list[dict[str, Any]]:
            found = score_targets(self.denoiser, [targets[i] for i in places], self.settings)
            return [{"kind": "elbo", **estimate._asdict()} for estimate in found]

        lengths = [len(target.prompt_ids) + len(target.completion_ids) for target in targets]
        records = self._through_cache(keys, score, "scoring", lengths)
        return [Estimate(**{name: record[name] for name in Estimate._fields}) for record in records]

    def _greedy(
        self, targets: Sequence[Target], estimates: Sequence[Estimate], wanted: Sequence[bool]
    ) -> list[bool | None]:
        matches: list[bool | None] = [estimate.greedy for estimate in estimates]
        open_ = [i for i, match in enumerate(matches) if match is None and wanted[i]]
        keys = [self.cache.key("greedy", {}, *targets[i]) for i in open_]

        def check(places: list[int]) -> list[dict[str, Any]]:
            found = greedy_matches(self.denoiser, [targets[open_[i]] for i in places], self.settings)
            return [{"kind": "greedy", "match": match} for match in found]

        lengths = [len(targets[i].completion_ids) for i in open_]
        for place, record in zip(open_, self._through_cache(keys, check, "decoding", lengths)):
            matches[place] = record["match"]
        return matches

    def _wants_greedy(self, request: Instance) -> bool:
        return self.settings.check_greedy and (self.greedy_tasks is None or request.task_name in self.greedy_tasks)

    def _through_cache(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], list[dict[str, Any]]],
        what: str,
        lengths: Sequence[int],
    ) -> list[dict[str, Any]]:
        """Records by place; unknown ones are computed in groups, longest first, each written when it is done.

        Requests next to each other are of a length, and the options of a question stay together.
        """
        first: dict[str, int] = {}
        for place, key in enumerate(keys):
            if self.cache.get(key) is None:
                first.setdefault(key, place)
        todo = sorted(first.values(), key=lambda place: (-lengths[place], place))
        self.cache.hits += len(set(keys)) - len(todo)
        groups = [todo[start : start + _GROUP] for start in range(0, len(todo), _GROUP)]
        for group in track(groups, what, console=Console(stderr=True)) if sys.stderr.isatty() else groups:
            self.cache.add(dict(zip((keys[place] for place in group), compute(group), strict=True)))
        return [dict(self.cache.get(key) or {}) for key in keys]


def _given(options: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (options or {}).items() if value is not None}


register_model("unveil")(UnveilLM)
