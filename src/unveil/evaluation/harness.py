"""A run of lm-eval's evaluator, and its results as plain numbers with both kinds of standard errors."""

import math
from collections.abc import Mapping
from typing import Any

from unveil.errors import UserError
from unveil.evaluation.model import UnveilLM
from unveil.evaluation.monte_carlo import decisions_of, decisions_summary, likelihood_summary
from unveil.evaluation.tasks import leaf_tasks, quiet_lm_eval


def run(
    model: UnveilLM,
    loaded: dict[str, Any],
    *,
    limit: float | None = None,
    apply_chat_template: bool = False,
    fewshot_as_multiturn: bool = True,
    system_instruction: str | None = None,
    bootstrap_iters: int = 1000,
    confirm_run_unsafe_code: bool = False,
) -> dict[str, Any]:
    """lm-eval's results, `samples` included.

    Raises:
        UserError: a task that runs the model's code without the user's word for it, or that is not for text models.
    """
    from lm_eval.evaluator import evaluate

    _refuse(loaded, confirm_run_unsafe_code)
    with quiet_lm_eval():
        results = evaluate(
            lm=model,
            task_dict=loaded,  # type: ignore[arg-type]
            limit=limit,  # type: ignore[arg-type]
            bootstrap_iters=bootstrap_iters,
            log_samples=True,
            system_instruction=system_instruction,
            apply_chat_template=apply_chat_template,
            fewshot_as_multiturn=fewshot_as_multiturn and apply_chat_template,
            confirm_run_unsafe_code=confirm_run_unsafe_code,
        )
    return dict(results or {})


def greedy_tasks(loaded: dict[str, Any]) -> frozenset[str]:
    """Tasks whose metrics read `is_greedy`: accuracy of a single target, exact match of options, or their own code."""
    wanted = set()
    for name, task in leaf_tasks(loaded).items():
        metrics = getattr(task, "_metric_fn_list", {})
        kind = task.OUTPUT_TYPE
        own = callable(getattr(getattr(task, "config", None), "process_results", None))
        if (kind == "loglikelihood" and (own or "acc" in metrics or not metrics)) or (
            kind == "multiple_choice" and (own or "exact_match" in metrics)
        ):
            wanted.add(name)
    return frozenset(wanted)


def task_records(model: UnveilLM, loaded: dict[str, Any], results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Per task: metrics with lm-eval's standard errors, and what the draws add to them."""
    records = {}
    for name, task in leaf_tasks(loaded).items():
        samples = (results.get("samples") or {}).get(name, [])
        filters = list(dict.fromkeys(sample["filter"] for sample in samples))
        own = [estimate for place, estimate in model.estimates.items() if place[0] == name]
        record: dict[str, Any] = {
            "kind": str(task.OUTPUT_TYPE),
            "documents": (results.get("n-samples") or {}).get(name, {}).get("effective", len(samples)),
            "num_fewshot": (results.get("n-shot") or {}).get(name),
            "version": (results.get("versions") or {}).get(name),
            "metrics": _metrics(results["results"].get(name, {}), (results.get("higher_is_better") or {}).get(name)),
        }
        if own:
            record["elbo"] = likelihood_summary(own)
        if task.OUTPUT_TYPE == "multiple_choice":
            first = [sample for sample in samples if sample["filter"] == filters[0]]
            for metric, normalised in (("acc", False), ("acc_norm", True)):
                if any(key.startswith(f"{metric},") for key in results["results"].get(name, {})):
                    decided = decisions_of(task, first, model.estimates, normalised)
                    record.setdefault("draws", {})[metric] = decisions_summary(decided)
        records[name] = record
    return records


def group_records(loaded: dict[str, Any], results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Per group that aggregates: its metrics."""
    return {
        name: {"metrics": _metrics(found, (results.get("higher_is_better") or {}).get(name))}
        for name, found in (results.get("groups") or {}).items()
        if name not in loaded["tasks"]
    }


def _metrics(found: Mapping[str, Any], better: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """lm-eval's `acc,none` and `acc_stderr,none` as records."""
    rows = []
    for key, value in found.items():
        metric, comma, filter_ = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = found.get(f"{metric}_stderr,{filter_}")
        rows.append(
            {
                "metric": metric,
                "filter": filter_,
                "value": _finite(value),
                "standard_error": _finite(error) if isinstance(error, int | float) else None,
                "higher_is_better": (better or {}).get(metric),
            }
        )
    return rows


def _finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity (a perplexity may be)."""
    return float(value) if math.isfinite(value) else None


def _refuse(loaded: dict[str, Any], unsafe_allowed: bool) -> None:
    for name, task in leaf_tasks(loaded).items():
        unsafe = getattr(task, "UNSAFE_CODE", False) or getattr(getattr(task, "config", None), "unsafe_code", False)
        if unsafe and not unsafe_allowed:
            raise UserError(
                f"task {name}: runs the programs that the model writes, on this machine; give "
                "--confirm_run_unsafe_code if you mean it, best inside a container"
            )
        if getattr(task, "MULTIMODAL", False):
            raise UserError(f"task {name}: needs a model that sees images; this one reads text only")
