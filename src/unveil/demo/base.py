"""The model that the demo starts from, and the fingerprints of everything that a run reads."""

import hashlib
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unveil.models import Denoiser, load_denoiser_model, load_tokenizer

SHIPPED_NAME = "unveil-demo-base"


@dataclass(frozen=True)
class Base:
    """A base model in float32 with its tokenizer; `name` is how reports call it, `fingerprints` sha256 by what."""

    name: str
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprints: dict[str, str]

    @property
    def denoiser(self) -> Denoiser:
        """The model as likelihood and generation see it."""
        return Denoiser(self.model)

    @property
    def shipped(self) -> bool:
        """Whether this is the model of the package."""
        return self.folder == shipped_folder()

    def copy_to(self, folder: Path) -> None:
        """Copy the checkpoint's files as they are."""
        folder.mkdir(parents=True)
        for pattern in ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "README.md"):
            for file in self.folder.glob(pattern):
                shutil.copyfile(file, folder / file.name)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.model.parameters())


def shipped_folder() -> Path:
    """Folder of the model that ships with the package."""
    return Path(str(resources.files("unveil.demo").joinpath("assets/base")))


def load_base(folder: str | Path | None = None) -> Base:
    """The shipped base model, or the one in `folder`.

    Raises:
        UserError: the folder holds no usable model or tokenizer.
    """
    path = shipped_folder() if folder is None else Path(folder)
    tokenizer = load_tokenizer(path)
    model = load_denoiser_model(path, torch.float32, tokenizer=tokenizer)
    name = SHIPPED_NAME if folder is None else path.resolve().name
    model.config.name_or_path = name  # a path on this machine names nothing for other readers
    data = resources.files("unveil.demo").joinpath("assets/reviews.csv.gz").read_bytes()
    fingerprints = {
        "base_weights": _sha256(b"".join(file.read_bytes() for file in sorted(path.glob("*.safetensors")))),
        "tokenizer": _sha256((path / "tokenizer.json").read_bytes()),
        "reviews": _sha256(data),
    }
    return Base(name, path, model, tokenizer, fingerprints)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
