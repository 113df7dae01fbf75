"""Trains models: packed batches, the jitted training step, the losses and fine-tuning.

    batch.py, packing.py   pack several sequences into each row
    step.py, trainer.py    take gradient steps, and hold the training state
    losses.py              defines the loss of each method as a function of statistics of its terms
    term_statistics.py     computes these statistics inside the step
    order.py               chooses the rows of each step, and defines the random streams of a run
    finetune.py            trains on question-answer pairs

These modules define the losses of the unlearning methods and no other part of the methods.
"""
