"""Training: packed batches, the jitted step, the losses of all methods, fine-tuning.

    batch.py, packing.py   rows of several sequences
    step.py, trainer.py    one gradient step; the state from checkpoint to checkpoint
    losses.py              one function for each method, from the numbers of its rows
    objective.py           those numbers, computed in the step
    order.py               which rows a step takes, and the random streams of a run
    finetune.py            supervised fine-tuning

Nothing here knows a method of unlearning beyond its loss.
"""
