"""`report.html` of the demo: what it says, in which order."""

from typing import Any

from unveil.demo.experiment import Experiment
from unveil.demo.headline import headline
from unveil.demo.recipe import Recipe
from unveil.report import Bullets, Gallery, Pairs, Paragraph, Picture, Samples, Section, SideBySide, Table, page

SAMPLES = 12


def report(found: Experiment, recipe: Recipe, record: dict[str, Any], pictures: dict[str, Picture]) -> str:
    """The HTML page. `record` is the run's `run.json`."""
    shuffled = record["data"]["shuffled_thumbs"]
    title = "unveil demo: alignment from thumbs up and down"
    if shuffled:
        title = "unveil demo: the control with shuffled thumbs"
    sections = [
        Section("Result", [Paragraph(_verdict(found, shuffled), strong=True), _table(found, shuffled)]),
        Section("What was done", [Paragraph(_what(record))]),
        Section("In pictures", [Gallery(list(pictures.values()))]),
        Section("Answers side by side", [Paragraph(_about_samples(found)), _samples(found)]),
        Section("How to read this", [Bullets(_notes(record))]),
        Section("Settings, versions, fingerprints", _settings(recipe, record)),
    ]
    return page(title, _subtitle(record), sections, _footer(record))


def _subtitle(record: dict[str, Any]) -> str:
    base = record["base"]
    return (
        f"ELBO-KTO on {base['name']} ({base['parameters'] / 1e6:.2f}M parameters), "
        f"unveil {record['versions']['unveil']}, seed {record['seeds']['training']}"
    )


def _verdict(found: Experiment, shuffled: bool) -> str:
    results = found.results
    low, high = results.interval
    text = (
        f"The judge prefers the aligned model's answer to the base's on {results.adjusted_win_rate:.1%} of {results.n} "
        f"prompts it was not trained on (95 % interval {low:.1%} to {high:.1%}; the base against itself gets "
        f"{results.null_win_rate:.1%})."
    )
    if shuffled:
        text += " The thumbs were shuffled before training, so nothing could be learned from what they mean."
    if results.nelbo_change > 0.01:
        text += (
            f" But the NELBO of unrelated text rose by {results.nelbo_change:.1%}: the model was damaged on the way, "
            "and the win rate should not be believed alone."
        )
    return text


def _table(found: Experiment, shuffled: bool) -> Table:
    findings = headline(found.results, shuffled)
    return Table(
        ["measure", "result", "how to read it"],
        [(finding.measure, finding.value, finding.reading) for finding in findings],
        [finding.holds for finding in findings],
    )


def _what(record: dict[str, Any]) -> str:
    data, settings, base = record["data"], record["settings"], record["base"]
    return (
        f"A masked diffusion language model of {base['parameters'] / 1e6:.2f} million parameters, pretrained on short "
        f"film and product reviews, was aligned with ELBO-KTO on human ratings of other film reviews: "
        f"{data['thumbs_up']:,} thumbs up and {data['thumbs_down']:,} thumbs down"
        f"{', shuffled' if data['shuffled_thumbs'] else ''}, {settings['steps']} steps of {settings['batch_size']}. "
        f"Then base and aligned model continued the first three words of {data['prompts']} reviews that neither had "
        "seen, and a judge fitted to the human ratings of yet other reviews chose between the two continuations. "
        "Beside the judge, the likelihood of held-out text says what the model lost on the way."
    )


def _about_samples(found: Experiment) -> str:
    count = min(SAMPLES, len(found.evidence.prompts))
    return (
        f"The first {count} prompts in the order of their sha256, not chosen. The rating is the judge's prediction of "
        "the mean human rating, from about -4 to 4; closer than the tie margin is a tie."
    )


def _samples(found: Experiment) -> Samples:
    evidence = found.evidence
    judged, rows = evidence.against_base, []
    for i, prompt in enumerate(evidence.prompts[:SAMPLES]):
        ratings = judged.other_ratings[i], judged.ratings[i]
        winner = {1.0: 1, 0.0: 0}.get(float(judged.outcomes[i]))
        texts = evidence.base.texts[i], evidence.aligned.texts[i]
        rows.append(SideBySide(prompt, texts, (f"rating {ratings[0]:+.2f}", f"rating {ratings[1]:+.2f}"), winner))
    return Samples(("base", "aligned"), rows)


def _notes(record: dict[str, Any]) -> list[tuple[str, str]]:
    judge, settings = record["judge"], record["settings"]
    notes = [
        (
            "Thumbs.",
            "Texts and ratings are real: each review has the mean of about twenty human ratings. A thumb is that mean "
            "cut at +1.5 and -1.5; nobody clicked it. Reviews in between give no feedback.",
        ),
        (
            "Judge.",
            f"A regression from words and word pairs to human ratings, fitted to reviews that never gave feedback. On "
            f"held-out reviews it gets the sign right in {judge['sign_accuracy']:.0%} and has a rank correlation of "
            f"{judge['spearman']:.2f} with people. It does not care about length, but it can be pleased by the right "
            "words in a poor sentence: read the samples.",
        ),
        (
            "Win rate and likelihood belong together.",
            "On a model this small the highest win rates come from damaged models. The NELBO (negative ELBO, an upper "
            "bound of the negative log-likelihood) of text that got no feedback is the guard; its ± is a 95 % interval "
            "over texts.",
        ),
        (
            "Settings.",
            _about_settings(record),
        ),
        (
            "Intervals",
            "cover the choice of prompts, not another training seed. The documentation has a table over three seeds "
            "with the control on shuffled thumbs; `unveil demo --shuffled_thumbs` runs that control.",
        ),
    ]
    if settings["replay_weight"]:
        notes.insert(
            3,
            (
                "Replay.",
                f"Every step also trains on {settings['replay_batch_size']} pretraining texts (weight "
                f"{settings['replay_weight']:g} per token). This is not part of the ELBO-KTO paper; without it, the "
                "likelihood of everything sinks in a model of this size.",
            ),
        )
    notes += [("Warning during training.", text) for text in record["warnings"]]
    return [(name, text if text.endswith(".") else text + ".") for name, text in notes]


def _about_settings(record: dict[str, Any]) -> str:
    if record["data"]["split"] == "tuning":
        return "This page reports on the tuning split, on which the settings were chosen: its numbers are optimistic"
    usual = Recipe(seed=record["settings"]["seed"]).as_dict()
    changed = [f"{name} = {value}" for name, value in record["settings"].items() if value != usual[name]]
    if changed:
        return f"This run departs from the settings that were chosen on the tuning split: {', '.join(changed)}"
    return "They were chosen on a tuning split of prompts and texts that this page does not show"


def _settings(recipe: Recipe, record: dict[str, Any]) -> list[Pairs]:
    meanings = recipe.meanings()
    return [
        Pairs("Settings", [(name, f"{value}", meanings[name]) for name, value in record["settings"].items()]),
        Pairs("Seeds", [(name, f"{value}", "") for name, value in record["seeds"].items()]),
        Pairs("Versions", [(name, value, "") for name, value in record["versions"].items()]),
        Pairs("Fingerprints (sha256)", [(name, value, "") for name, value in record["fingerprints"].items()]),
        Pairs("Seconds", [(name, f"{value:.1f}", "") for name, value in record["stages"].items()]),
    ]


def _footer(record: dict[str, Any]) -> str:
    return (
        f"Made by `{record['command']}` in {record['results']['seconds']:.0f} seconds. The numbers are in run.json, "
        "the training curves in metrics.jsonl, all answers in answers.jsonl. Method: ELBO-KTO (arXiv 2510.23658) on "
        "the ELBO of LLaDA (arXiv 2502.09992). Reviews and ratings: Hutto and Gilbert, ICWSM 2014."
    )
