"""What does the model answer? Sampling from a masked diffusion language model."""

from unveil.generation.config import GenerationConfig
from unveil.generation.reveals import Observer, Step
from unveil.generation.sampler import Samples, generate, sample
from unveil.generation.statistics import Statistics
from unveil.generation.trajectory import Recorder, Reveal, Trajectory, read_trajectories, write_trajectories

__all__ = [
    "GenerationConfig",
    "Observer",
    "Recorder",
    "Reveal",
    "Samples",
    "Statistics",
    "Step",
    "Trajectory",
    "generate",
    "read_trajectories",
    "sample",
    "write_trajectories",
]
