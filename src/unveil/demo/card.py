"""README.md of the aligned checkpoint."""

from typing import Any

import yaml

from unveil.demo.headline import headline
from unveil.demo.results import Results


def model_card(results: Results, record: dict[str, Any]) -> str:
    """Front matter that the hub reads, what the model is, how to use it, how it was made, what it is worth."""
    settings, data = record["settings"], record["data"]
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "language": "en",
        "tags": ["unveil", "kto", "diffusion-language-model"],
    }
    rows = "\n".join(f"| {f.measure} | {f.value} | {f.reading} |" for f in headline(results, data["shuffled_thumbs"]))
    chosen = "\n".join(f"| `{name}` | {value} |" for name, value in settings.items())
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    control = "; **shuffled**, so this is a control that should not be better than its base"
    origin = f", which ships with unveil {record['versions']['unveil']}" if record["base"]["shipped"] else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# unveil-demo-aligned

A masked diffusion language model of {record["base"]["parameters"] / 1e6:.2f}M parameters that continues short film
reviews, aligned with ELBO-KTO (arXiv 2510.23658) by `unveil demo`. It demonstrates a method and is of no other use.

- Base: {record["base"]["name"]}{origin}
- Feedback: {data["thumbs_up"]:,} thumbs up, {data["thumbs_down"]:,} thumbs down on film reviews: mean human ratings
  (Hutto and Gilbert, ICWSM 2014) cut at +1.5 and -1.5{control if data["shuffled_thumbs"] else ""}
- Training: {settings["steps"]} steps of {settings["batch_size"]} thumbs, learning rate {settings["learning_rate"]:g}
- Not part of the paper: replay of pretraining text, weight {settings["replay_weight"]:g}

## Use

```bash
{generate_command("unveil-demo/aligned", settings)}
```

A prompt is `film:` and a few words in lower case. Answers have at most {settings["canvas_length"]} tokens.

## Results

| measure | result | how to read it |
|---|---|---|
{rows}

The judge is a regression from words to human ratings, fitted to other reviews than those that gave feedback.

## Settings

| setting | value |
|---|---|
{chosen}

## Versions

{versions}
"""


def generate_command(folder: str, settings: dict[str, Any]) -> str:
    """A command line that samples from the model as the demo did."""
    return f'unveil generate --model_name_or_path {folder} --prompt "film: the story is" {sampling_flags(settings)}'


def sampling_flags(settings: dict[str, Any]) -> str:
    """The sampling settings of the demo as flags of `unveil generate` and `unveil compare`."""
    return (
        f"--gen_length {settings['canvas_length']} --steps {settings['sampling_steps']} --remasking random "
        f"--temperature {settings['temperature']:g} --top_p {settings['top_p']:g}"
    )
