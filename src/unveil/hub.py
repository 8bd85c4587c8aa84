"""Whether the Hugging Face hub can be reached: asked once and briefly, so that a wrong name is answered at once.

Its client tries every file of a name for half a minute where there is no network, although one answer holds for all.
"""

import functools
import sys
from typing import Any

import huggingface_hub
from huggingface_hub import constants

_SECONDS = 5.0


def hub_is_offline() -> bool:
    """Whether names are looked up in the cache alone: as `HF_HUB_OFFLINE` says, or since the hub does not answer.

    Where it does not answer, the libraries of this process are told so, and do not try again.
    """
    if not constants.HF_HUB_OFFLINE and not _answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
        settings: Any = sys.modules.get("datasets.config")  # it copied the value when it was imported
        if settings is not None:
            settings.HF_HUB_OFFLINE = settings.HF_DATASETS_OFFLINE = True
    return constants.HF_HUB_OFFLINE


@functools.cache
def _answers(endpoint: str) -> bool:
    try:
        huggingface_hub.get_session().head(endpoint, timeout=_SECONDS)
    except Exception:  # the client's own kinds of connection errors, which change with the client
        return False
    return True
