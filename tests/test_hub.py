"""A name that is nowhere is answered at once, and the name is blamed for it."""

import sys
import time

import pytest
from huggingface_hub import constants

from unveil import hub
from unveil.data import load_rows
from unveil.errors import UserError
from unveil.models import load_config, load_denoiser_model, load_tokenizer


@pytest.fixture
def unreachable(monkeypatch):
    """A hub where nobody listens."""
    import datasets.config

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    for module in [m for name, m in list(sys.modules.items()) if name.startswith(("huggingface_hub", "datasets"))]:
        for name in ("ENDPOINT", "HF_ENDPOINT"):
            if isinstance(getattr(module, name, None), str):
                monkeypatch.setattr(module, name, "http://127.0.0.1:9")
    hub._answers.cache_clear()
    yield
    hub._answers.cache_clear()


@pytest.mark.parametrize("load", [load_tokenizer, load_config, load_denoiser_model])
def test_a_typo_in_a_models_name_is_answered_at_once_without_network(unreachable, load):
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        load("nobody/no-such-model")
    assert time.perf_counter() - start < 8
    assert str(caught.value).startswith(
        "nobody/no-such-model: neither a folder here nor readable on the Hugging Face hub (which is not reached"
    )
    assert constants.HF_HUB_OFFLINE


def test_a_typo_in_a_dataset_name_is_answered_at_once_without_network(unreachable):
    start = time.perf_counter()
    with pytest.raises(UserError, match="nobody/no-such-rows: the hub cannot be reached, and no file or folder"):
        load_rows("nobody/no-such-rows")
    assert time.perf_counter() - start < 8


def test_the_hub_is_asked_once(unreachable, monkeypatch):
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append((url, timeout))

    monkeypatch.setattr("huggingface_hub.get_session", Session)
    assert not hub.hub_is_offline()
    assert not hub.hub_is_offline()
    assert len(asked) == 1
    assert asked[0][1] <= 5
