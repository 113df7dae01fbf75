"""Scores: how like the model's own original answer a sample still is. Lower is better.

The default is the paper's: ROUGE-L recall of the sample against the original model's greedy
answer (the paper's reward is 1 - score). A score may be any function of (original answer,
samples); PMC never shows it a true forget answer. The scale that the rest of the method assumes:
0 (or less) means "nothing left of the original", and such a question is never sampled again; 1 is
as bad as it gets, and it is what an empty or incoherent answer is given.

    base.py       the protocol, its checks, the penalties of short and empty answers
    text.py       ROUGE, chrF, embeddings, forbidden strings, weighted means
    token_lcs.py  longest common subsequence of token ids
    coherence.py  which samples are no answers at all
    preference.py which of equal scores is kept
    threshold.py  the score of a model that never saw the data, in place of 0
    registry.py   from settings to a score

An empty original answer has nothing to recall: ROUGE gives 0 to every sample.

Reference: Scholten et al., arXiv 2507.04219.
"""
