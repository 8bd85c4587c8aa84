"""`--judge` and its flags: judges of this package by name, any other as `module:attribute`, several as a panel."""

import importlib
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from datasets import Dataset

from unveil.cli.options import HeldOutArguments
from unveil.data.columns import own_columns
from unveil.errors import UserError
from unveil.judging import Judge, RatingJudge
from unveil.judging.answer_cache import AnswerCache
from unveil.judging.panel import Panel
from unveil.judging.template import read_template, shipped_template
from unveil.judging.usage import Meter, Prices

HUMAN_RATINGS = "human_ratings"
NAMES = (
    f"{HUMAN_RATINGS}, openai:MODEL, hf:MODEL, exact, numeric, regex:PATTERN, json_schema:FILE, unit_tests, "
    "reward:module:function, or module:attribute"
)
_ENDPOINT = (
    "base_url", "template", "temperature", "max_tokens", "seed", "concurrency", "timeout", "tries", "cache",
    "price_in", "price_out",
)  # fmt: skip
_LOCAL = ("template", "dtype", "device")
# Which --judge_ flags a kind of judge reads (see `flag_of`); `kind:` is the kind with something behind its colon.
_READS = {
    HUMAN_RATINGS: (),
    "openai": ("model", *_ENDPOINT),
    "openai:": _ENDPOINT,
    "hf": ("model", *_LOCAL),
    "hf:": _LOCAL,
    "local": ("model", *_LOCAL),
    "local:": _LOCAL,
    "exact": ("reference",),
    "numeric": ("reference", "tolerance"),
    "regex": ("reference",),
    "regex:": (),
    "json_schema": ("reference",),
    "json_schema:": (),
    "unit_tests": ("reference", "seconds", "memory", "unsafe_sandbox"),
    "reward:": ("tie_margin",),
}


def flag_of(read: str) -> str:
    """The published name of a flag that the table calls `read`."""
    return read if read == "unsafe_sandbox" else f"judge_{read}"


@dataclass
class JudgeArguments:
    """Which judge, and how it is asked"""

    judge: list[str] | None = field(default=None, metadata={"help": f"One or several of {NAMES}."})
    judge_model: str | None = field(
        default=None, metadata={"help": "Model of --judge openai (as the endpoint calls it) or of --judge hf."}
    )
    judge_base_url: str | None = field(
        default=None, metadata={"help": "OpenAI-compatible endpoint; unset: OPENAI_BASE_URL. The key: OPENAI_API_KEY."}
    )
    judge_template: str | None = field(
        default=None,
        metadata={"help": "File with {{prompt}}, {{answer_a}}, {{answer_b}}, and columns such as {{reference}}."},
    )
    judge_temperature: float = field(default=0.0, metadata={"help": "Of an endpoint judge."})
    judge_max_tokens: int = field(default=1024, metadata={"help": "Longest reply of an endpoint judge."})
    judge_seed: int | None = field(default=None, metadata={"help": "Sent to the endpoint, where it takes one."})
    judge_concurrency: int = field(default=8, metadata={"help": "Requests under way at once."})
    judge_timeout: float = field(default=120.0, metadata={"help": "Seconds for one whole reply."})
    judge_tries: int = field(default=6, metadata={"help": "Attempts per request, with growing waits between them."})
    judge_cache: str | None = field(
        default=None,
        metadata={"help": "File of what was judged already; unset: one per model in the user's cache folder."},
    )
    judge_price_in: float | None = field(default=None, metadata={"help": "Price per million tokens read."})
    judge_price_out: float | None = field(default=None, metadata={"help": "Price per million tokens written."})
    judge_dtype: str | None = field(
        default=None, metadata={"help": "Of --judge hf: float32, bfloat16 or float16; unset: as in the checkpoint."}
    )
    judge_device: str | None = field(default=None, metadata={"help": "Of --judge hf; unset: a GPU if there is one."})
    judge_reference: str | None = field(
        default=None, metadata={"help": "Column with the right answer, pattern, schema or tests; unset: usual names."}
    )
    judge_tolerance: float = field(default=1e-6, metadata={"help": "Relative error that --judge numeric forgives."})
    judge_tie_margin: float = field(default=0.0, metadata={"help": "Rewards that differ by no more than this tie."})
    judge_seconds: float = field(default=10.0, metadata={"help": "Processor time of a program under unit_tests."})
    judge_memory: int = field(default=1024, metadata={"help": "MiB of memory of a program under unit_tests."})
    unsafe_sandbox: bool = field(
        default=False,
        metadata={"help": "Run programs under unit_tests also where this machine's sandbox cannot hold them."},
    )
    judge_vote: str = field(default="majority", metadata={"help": "How several judges form a panel: majority or mean."})

    def require_read(self) -> None:
        """Refuse a flag that was given and that none of the judges reads: whoever gave it expects it to matter.

        Raises:
            UserError: there is such a flag. A judge that does not exist is left to `load_all`.
        """
        names = self.judge or []
        read = {"judge"} | ({"judge_vote"} if len(names) > 1 else set())
        for name in names:
            kind, colon, rest = name.partition(":")
            known = _READS.get(f"{kind}:" if rest else kind)
            if known is None and (not colon or kind in _READS):
                return
            read |= {flag_of(each) for each in known or ()}
        for each in fields(self):
            if getattr(self, each.name) != each.default and each.name not in read:
                those = ", ".join(names)
                raise UserError(f"--{each.name}: none of the judges {those} reads it; leave it out")

    def load(self) -> Judge:
        """The judge that is named; several are a panel.

        Raises:
            UserError: no such judge, a flag that does not fit, or what a judge needs is missing.
        """
        judges = self.load_all()
        vote: Any = self.judge_vote
        return judges[0] if len(judges) == 1 else Panel(judges, vote)

    def load_all(self) -> list[Judge]:
        """Every judge that is named, apart."""
        if not self.judge:
            raise UserError(f"--judge: is missing; give {NAMES}")
        for name in self.judge:
            if self.judge.count(name) > 1:
                raise UserError(f"--judge {name}: is named more than once; name each judge once")
        return [self._load(name) for name in self.judge]

    def _load(self, name: str) -> Judge:
        kind, colon, rest = name.partition(":")
        if kind == HUMAN_RATINGS and not colon:
            return _human_ratings()
        if kind == "openai":
            return self._endpoint_judge(rest or self.judge_model)
        if kind in ("hf", "local"):
            return self._local_judge(rest or self.judge_model)
        if kind == "reward":
            return self._reward_judge(name, rest)
        verifier = self._verifier(kind, rest if colon else None)
        if verifier is not None:
            return verifier
        return _own_judge(name)

    def _endpoint_judge(self, model: str | None) -> Judge:
        from unveil.judging.endpoint import Endpoint, Sampling
        from unveil.judging.endpoint_judge import EndpointJudge
        from unveil.judging.retrying import Backoff

        if not model:
            raise UserError("--judge openai: which model? give --judge_model, or --judge openai:MODEL")
        if (self.judge_price_in is None) != (self.judge_price_out is None):
            raise UserError("--judge_price_in and --judge_price_out: give both or neither")
        prices = None
        if self.judge_price_in is not None and self.judge_price_out is not None:
            prices = Prices(self.judge_price_in, self.judge_price_out)
        for flag, value in (("max_tokens", self.judge_max_tokens), ("tries", self.judge_tries)):
            if value < 1:
                raise UserError(f"--judge_{flag} {value}: at least 1 is needed")
        if not self.judge_timeout > 0:
            raise UserError(f"--judge_timeout {self.judge_timeout}: give a number above 0")
        endpoint = Endpoint(
            model,
            self.judge_base_url,
            Sampling(self.judge_temperature, self.judge_max_tokens, self.judge_seed),
            self.judge_timeout,
            Backoff(self.judge_tries),
            Meter(prices),
        )
        template = shipped_template("pairwise") if self.judge_template is None else read_template(self.judge_template)
        cache = AnswerCache(self.judge_cache or cache_file(model))
        return EndpointJudge(endpoint, template, cache, self.judge_concurrency)

    def _local_judge(self, model: str | None) -> Judge:
        from unveil.judging.local_lm import load_local_judge

        if not model:
            raise UserError("--judge hf: which model? give --judge_model, or --judge hf:MODEL")
        template = None if self.judge_template is None else read_template(self.judge_template)
        return load_local_judge(model, template=template, dtype=self.judge_dtype, device=self.judge_device)

    def _reward_judge(self, name: str, place: str) -> Judge:
        from unveil.judging.reward import RewardJudge

        module_name, _, attribute = place.partition(":")
        if not (module_name and attribute):
            raise UserError(f"--judge {name}: give reward:module:function, a function of prompts and completions")
        function: Any = _attribute(name, module_name, attribute)
        if not callable(function):
            raise UserError(f"--judge {name}: a {type(function).__name__} cannot be called; name a function")
        return RewardJudge(attribute, function, self.judge_tie_margin)  # type: ignore[arg-type]

    def _verifier(self, kind: str, rest: str | None) -> Judge | None:
        from unveil.judging.reference_verifiers import exact_judge, numeric_judge, regex_judge
        from unveil.judging.sandbox import Limits
        from unveil.judging.schema_verifier import SCHEMAS, schema_judge
        from unveil.judging.unit_tests import TESTS, unit_test_judge
        from unveil.judging.verifier import REFERENCES

        named = (self.judge_reference,) if self.judge_reference else None
        if kind == "regex" and rest != "":
            return regex_judge(rest, named or REFERENCES)
        if kind == "json_schema" and rest != "":
            return schema_judge(rest, named or SCHEMAS)
        if rest is not None:
            return None
        if kind == "exact":
            return exact_judge(named or REFERENCES)
        if kind == "numeric":
            return numeric_judge(self.judge_tolerance, named or REFERENCES)
        if kind == "unit_tests":
            limits = Limits(self.judge_seconds, self.judge_memory, unsafe=self.unsafe_sandbox)
            return unit_test_judge(named or TESTS, limits)
        return None


def load_judge(name: str) -> Judge:
    """The judge that `--judge` names, with every other flag at its default."""
    return JudgeArguments(judge=[name]).load()


def cache_file(model: str) -> Path:
    """Where the replies of a model are kept unless told otherwise."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    plain = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in model)
    return Path(folder) / "unveil" / "judging" / f"{plain}.jsonl"


def data_columns(judge: Judge, data: HeldOutArguments, rows: Dataset) -> dict[str, list[Any]] | None:
    """For a judge that reads columns: those of the data beside the prompt, one value per row of `rows`.

    rows: as `read_prompts` gives them, with `row`, the number of the row in the data.
    """
    if not getattr(judge, "reads_columns", False) or not data.dataset_name:
        return None
    whole = data.read_held_out()
    for given, wanted in (data.columns() or {}).items():
        if given in whole.column_names and wanted not in whole.column_names:
            whole = whole.rename_column(given, wanted)
    chosen = whole.select(rows["row"][:])
    return {name: list(chosen[name]) for name in own_columns(chosen) if name != "prompt"}


def _human_ratings() -> Judge:
    from unveil.demo import human_rating_judge  # scikit-learn, and only needed here

    ratings = human_rating_judge()
    return RatingJudge(ratings.name, ratings.score, ratings.tie_margin, reads="prompt_and_answer")  # type: ignore[arg-type]


def _own_judge(name: str) -> Judge:
    """An object with the attributes of `unveil.judging.Judge`, or what makes one; working-folder modules are found."""
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise UserError(f"--judge {name}: unknown; give {NAMES}")
    found = _attribute(name, module_name, attribute)
    judge: Any = found
    if isinstance(found, type) or (callable(found) and not hasattr(found, "compare")):
        try:
            judge = found()
        except Exception as error:  # code of the user
            raise UserError(f"--judge {name}: calling it raised {_told(error)}; mend it") from error
    missing = [part for part in ("name", "symmetric", "compare") if not hasattr(judge, part)]
    if missing:
        raise UserError(
            f"--judge {name}: a {type(judge).__name__} is no judge, it lacks {', '.join(missing)}; "
            "see unveil.judging.Judge"
        )
    return judge


def _attribute(name: str, module_name: str, attribute: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"--judge {name}: no module {error.name}; check the spelling and the working folder") from error
    except AttributeError as error:
        raise UserError(f"--judge {name}: {' '.join(str(error).split())}; check the spelling") from error
    except Exception as error:  # code of the user
        raise UserError(f"--judge {name}: importing {module_name} raised {_told(error)}; mend it") from error
    finally:
        sys.path.remove(os.getcwd())


def _told(error: Exception) -> str:
    return f"{type(error).__name__} ({' '.join(str(error).split())})"
