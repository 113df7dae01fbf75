"""Training: packed batches, the jitted step, the losses of all methods, fine-tuning.

    batch.py, packing.py   rows of several sequences
    step.py, trainer.py    one gradient step; the training state and its checkpoints
    losses.py              the loss of each method, a function of per-term statistics
    term_statistics.py     these statistics, computed inside the step
    order.py               which rows each step trains on, and the random streams of a run
    finetune.py            supervised fine-tuning

Nothing here knows an unlearning method beyond its loss.
"""
