"""How do I call this network? LLaDA itself, and `Denoiser`, the boundary that the rest of the package sees.

Importing this package registers `llada` with transformers' Auto classes, so that published checkpoints load without
`trust_remote_code`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from unveil.models.configuration_llada import LLaDAConfig
from unveil.models.denoiser import Denoiser, unwrap
from unveil.models.given import denoiser_on, device_named, read_chat_template, settle_mask_token
from unveil.models.key_values import KeyValues
from unveil.models.loading import check_tokenizer, load_config, load_denoiser_model, load_tokenizer
from unveil.models.modeling_llada import LORA_TARGETS, LLaDAModelLM

AutoConfig.register("llada", LLaDAConfig, exist_ok=True)
for _auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM):
    _auto_class.register(LLaDAConfig, LLaDAModelLM, exist_ok=True)

__all__ = [
    "LORA_TARGETS",
    "Denoiser",
    "KeyValues",
    "LLaDAConfig",
    "LLaDAModelLM",
    "check_tokenizer",
    "denoiser_on",
    "device_named",
    "load_config",
    "load_denoiser_model",
    "load_tokenizer",
    "read_chat_template",
    "settle_mask_token",
    "unwrap",
]
