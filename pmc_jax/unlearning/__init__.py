"""Unlearning methods, their replacement answers and the training loop.

    pmc.py            defines Partial Model Collapse, in the order of the paper
    extensions.py     defines four of this library's additions to the paper
    pmc_source.py     connects the algorithm with the model, the tokenizer and the settings
    own_questions.py  makes the questions of the retain source `own`
    own_retain.py     makes retain data from the target model's own answers
    rollouts.py       samples K answers to each question
    selection.py      scores samples and selects the replacement answers
    store.py          stores the replacement answers
    source.py         defines the interface between the loop and a method
    answer_source.py  provides the rows of all methods except PMC and PMC-alignment
    loop.py           runs rounds of gradient steps, logs them and saves checkpoints

No module in this folder imports `EvalSet` or `FinetuneSet`. Only `answer_source.py` imports
`ForgetAnswerSet`, so PMC has no access to true forget answers.
"""
