"""A stand-in for an aligned model: the same network with a little noise on every weight."""

import copy

import torch

from unveil.models import Denoiser


def perturbed_copy(denoiser: Denoiser, scale: float, seed: int = 0) -> Denoiser:
    """A copy with Gaussian noise of sd `scale` times the root mean square of each parameter tensor.

    Margins between the two lack the systematic drift that training brings; an aligned copy, where there is one, is the
    better reference.
    """
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(denoiser.model)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point():
                continue
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            wide = parameter.float()
            parameter.copy_((wide + scale * wide.square().mean().sqrt() * noise).to(parameter.dtype))
    return Denoiser(model, denoiser.mask_token_id, denoiser.logit_shift)
