"""README.md of a trained model: what it was made from, with what, and how to use it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unveil.files import write_text
from unveil.models import unwrap

if TYPE_CHECKING:
    from unveil.training.surrogate_trainer import SurrogateTrainer

CITATIONS = {
    "KTO": "ELBO-KTO (arXiv 2510.23658) on the ELBO of a masked diffusion language model (LLaDA, arXiv 2502.09992)",
    "SFT": "masked-diffusion fine-tuning (LLaDA, arXiv 2502.09992)",
}


def write_model_card(folder: Path, trainer: "SurrogateTrainer", source: str, record: dict[str, Any]) -> None:
    """Write `README.md` with front matter that the hub reads."""
    config = unwrap(trainer.policy).config
    name = Path(str(trainer.args.output_dir)).resolve().name
    base = config.name_or_path or None
    adapters = (folder / "adapter_config.json").is_file()
    method = str(trainer._name)
    front = {
        "library_name": "peft" if adapters else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["unveil", method.lower(), "diffusion-language-model"],
        # A local path names nothing for other readers.
        **({"base_model": base} if base and not Path(base).exists() else {}),
    }
    rows = "\n".join(f"| `{flag}` | {value} |" for flag, value in record["arguments"].items() if value is not None)
    versions = ", ".join(f"{library} {version}" for library, version in record["versions"].items())
    text = f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {name}

Trained with unveil {record["versions"]["unveil"]} by {CITATIONS.get(method, method)}.

- Base: {Path(base).name if base else "random weights"}
- Data: {Path(source).name}
- Steps: {record["steps"]}

```bash
unveil generate --model_name_or_path {name} --prompt "..."
```

## Training arguments

| argument | value |
|---|---|
{rows}

## Versions

{versions}
"""
    write_text(folder / "README.md", text)
