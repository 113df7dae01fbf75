"""Thoughts of models that think before they answer, such as `<think>...</think>`.

A text of a model keeps its thoughts, because they may tell a secret. `answer_of` returns the part
that counts as the answer.
"""

import re

# The marks before and after a thought, by family of models.
MARKS = {
    "<think>": "</think>",  # Qwen3, DeepSeek-R1, SmolLM3, GLM
    "[THINK]": "[/THINK]",  # Magistral
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A Reasoning
}
_BLOCKS = re.compile(
    "|".join(f"{re.escape(begin)}.*?{re.escape(end)}" for begin, end in MARKS.items()), re.DOTALL
)
_BEGIN = re.compile("|".join(map(re.escape, MARKS)))
_END = re.compile("|".join(map(re.escape, MARKS.values())))


def answer_of(text: str) -> str:
    """Returns a text of a model without its thoughts and without outer space.

    A thought that has not ended reaches to the end of the text, and a thought without a beginning
    begins with the text.
    """
    text = _BLOCKS.sub("", text)
    text = _END.split(text)[-1]
    return _BEGIN.split(text)[0].strip()


def opened_by(prompt: str) -> str:
    """Returns the mark with which a prompt begins a thought of the model, or "" if it does not."""
    return next((mark for mark in MARKS if prompt.rstrip().endswith(mark)), "")
