"""Makes losses.npz with the code of open-unlearning; run by hand, not by the tests.

    pip install torch
    git clone https://github.com/locuslab/open-unlearning
    python tests/golden/losses.py open-unlearning/src/trainer/utils.py

Made with torch 2.13 and the file of commit 19a6141d. One unpadded row whose prompt is a single
token, all else answer, and logits that are given: no model takes part.

    logits f32[2,n+1,V]     of the model, and of the one before unlearning; the last position
                            predicts nothing
    other f32[2,n+1,V]      the same for another answer to the same question (DPO's refusal)
    tokens, others i32[n]   the answers
    beta, delta f32         of all losses
    npo, dpo, simnpo, undial, kl f32    what its functions return; kl over the whole row
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
SIZE, VOCABULARY, BETA, DELTA = 7, 23, 0.7, 0.4


class Fixed:
    """A model that answers with given logits."""

    def __init__(self, by_row: dict[int, np.ndarray]):
        self._by_row = by_row

    def __call__(self, row, labels=None):
        return types.SimpleNamespace(logits=torch.tensor(self._by_row[row])[None])


def main(path: str) -> None:
    spec = importlib.util.spec_from_file_location("utils", path)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    rng = np.random.default_rng(0)
    logits, other = (2 * rng.standard_normal((2, 2, SIZE + 1, VOCABULARY))).astype(np.float32)
    tokens, others = rng.integers(0, VOCABULARY, (2, SIZE)).astype(np.int32)

    def inputs(row: int, answer: np.ndarray):
        labels = torch.tensor([[-100, *answer.tolist()]])
        return {"row": row, "labels": labels}

    model, before = (Fixed({0: logits[i], 1: other[i]}) for i in (0, 1))
    lose, win = inputs(0, tokens), inputs(1, others)
    npo, _ = theirs.compute_dpo_loss(model, before, None, lose, BETA)
    dpo, _ = theirs.compute_dpo_loss(model, before, win, lose, BETA)
    nll, _ = theirs.compute_batch_nll(model, lose)
    mean = nll / (lose["labels"] != -100).sum(-1) - DELTA  # as trainer/unlearn/simnpo.py has it
    simnpo = -F.logsigmoid(BETA * mean).mean() * 2 / BETA
    # Its mask is indexed by labels: the row without the position that has none.
    undial, _ = theirs.compute_undial_loss(model, before, lose, BETA)
    kl, _ = theirs.compute_kl_divergence(model, before, {"row": 0, "labels": None})
    found = {"npo": npo, "dpo": dpo, "simnpo": simnpo, "undial": undial, "kl": kl}
    np.savez(
        HERE / "losses.npz",
        **dict(logits=logits, other=other, tokens=tokens, others=others),
        **dict(beta=np.float32(BETA), delta=np.float32(DELTA)),
        **{name: np.float32(value) for name, value in found.items()},
    )


if __name__ == "__main__":
    main(sys.argv[1])
