"""Scores that measure how similar a sample still is to the original answer. Lower is better.

The default score is the score of the paper: ROUGE-L recall of the original answer in a sample. The
paper's reward is 1 - score. A score may be any function of an original answer and its samples. PMC
never passes a true forget answer to a score.

All scores use the same scale. A score of 0 or less means that a sample contains nothing of the
original answer. PMC never samples again for a question whose stored answer has such a score. A
score of 1 is the worst. Incoherent answers get it, and so do empty answers by default.

    base.py       the protocol of a score, its checks, penalties for short and empty answers
    text.py       ROUGE, chrF, embeddings, forbidden strings, weighted means
    rouge.py      ROUGE recall of two texts
    words.py      the two rules by which ROUGE splits text into words
    token_lcs.py  longest common subsequence of token ids
    coherence.py  rules by which a sample counts as an answer
    secret_*.py   the parts of answers that identify somebody or something
    abstention.py answers that say that the model does not know
    invention.py  facts in an answer that its question does not state
    preference.py order of samples with equal scores
    threshold.py  thresholds, up to which a score counts as 0
    registry.py   construction of a score from the settings

An empty original answer contains nothing to recall, so ROUGE gives every sample 0.

Reference: Scholten et al., arXiv 2507.04219.
"""
