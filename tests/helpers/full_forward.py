"""Full forward passes over prompts and answers, with which tests compare sampling."""

import numpy as np
from golden_models import full_logits
from tiny_cases import TINY, train_layout


def next_token_logits(model, questions, tokens: np.ndarray) -> np.ndarray:
    """Computes the logits f32[n,K,T,V] of generated tokens [n,K,T] by a full pass per sample."""
    n, k, t = tokens.shape
    rows = np.zeros((n * k, 16 + t), np.int32)
    size = np.repeat([len(q) for q in questions], k)
    for row, prompt, answer in zip(
        rows, (q for q in questions for _ in range(k)), tokens.reshape(-1, t), strict=True
    ):
        row[: len(prompt)] = prompt
        row[len(prompt) : len(prompt) + t] = answer
    out = full_logits(model, TINY, train_layout(), rows, size + t)
    at = size[:, None] - 1 + np.arange(t)
    return np.take_along_axis(out, at[..., None], 1).reshape(n, k, t, -1)
