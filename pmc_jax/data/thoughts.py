"""Thoughts of models that think before they answer, such as `<think>...</think>`.

A sampled text keeps its thoughts, because thoughts may reveal a secret. `answer_of` returns the
part of the text that counts as the answer.
"""

import re

# The keys are the marks before a thought, and the values are the marks after it.
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
    """Returns a sampled text without its thoughts, and without leading or trailing white space.

    A thought without an end mark extends to the end of the text. A thought without a begin mark
    extends from the start of the text.
    """
    text = _BLOCKS.sub("", text)
    text = _END.split(text)[-1]
    return _BEGIN.split(text)[0].strip()


def opened_by(prompt: str) -> str:
    """Returns the mark with which the end of a prompt begins a thought, or "" if there is none."""
    return next((mark for mark in MARKS if prompt.rstrip().endswith(mark)), "")
