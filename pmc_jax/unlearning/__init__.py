"""Unlearning: the algorithm, what it remembers, and the loop that takes its steps.

    pmc.py            Partial Model Collapse, in the order of the paper
    extensions.py     what this library adds to it
    pmc_source.py     connects it with the model, the tokenizer and the settings
    rollouts.py       K samples to each question
    selection.py      scores, coherence and preference of a run
    store.py          the replacement answers
    source.py         what the loop asks of a method; answer_source.py: methods with given answers
    loop.py           rounds and gradient steps, log, checkpoints

Nothing here imports `EvalSet` or `FinetuneSet`: true forget answers cannot get in.
"""
