"""What does the model answer? Sampling from a masked diffusion language model."""

from unveil.generation.config import GenerationConfig
from unveil.generation.sampler import generate

__all__ = ["GenerationConfig", "generate"]
