"""Fixes the date that a chat template prints as today's date.

Some templates call the function `strftime_now` of transformers, so prompts and results would change
from one day to the next. A macro with the same name, which is put before the template, prints a
fixed date instead.
"""

import datetime
import functools
import json
from typing import Any

CALL = "strftime_now"
_CODES = "aAbBcCdDeFgGhHIjklmMnprRSTtuUVwWxXyYzZ"
_MACRO = (
    "{%- macro strftime_now(format) -%}{%- set text = namespace(value=format) -%}"
    "{%- for code, value in CODES.items() -%}"
    "{%- set text.value = text.value | replace(code, value) -%}{%- endfor -%}"
    "{{ text.value }}{%- endmacro +%}"
)


def calls_for_today(tokenizer: Any) -> bool:
    """Returns whether the chat template of a tokenizer calls a function for the present date."""
    return CALL in str(tokenizer.chat_template or "")


def dated_template(tokenizer: Any, date: str | None) -> str:
    """Returns the chat template of a tokenizer with a fixed date.

    Args:
        tokenizer: a tokenizer of transformers with a chat template.
        date: date as YYYY-MM-DD, or None for the present date.
    """
    return _macro(date or today()) + tokenizer.get_chat_template()


@functools.cache
def today() -> str:
    """Returns the date of this function's first call in the process, as YYYY-MM-DD."""
    return datetime.date.today().isoformat()


@functools.cache
def _macro(date: str) -> str:
    moment = datetime.datetime.fromisoformat(date)  # The time is midnight.
    codes = [f"%{code}" for code in _CODES] + [f"%-{code}" for code in "dmHIMSjyU"] + ["%%"]
    values = {code: moment.strftime(code) for code in codes}
    return _MACRO.replace("CODES", json.dumps(values))
