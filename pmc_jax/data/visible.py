"""Checks whether a text is visible, and maps all texts that look the same to one form."""

import re
import unicodedata

# These are the characters of Unicode's Default_Ignorable_Code_Point that are not format characters
# (category Cf), and the blank pattern of Braille.
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")  # These are categories of Unicode.
_QUOTES = str.maketrans("‘’‚‛′`´ʼʻ‹›“”„‟″«»‐‑‒–—―−", 11 * "'" + 7 * '"' + 7 * "-")


def is_visible(text: str) -> bool:
    """Returns whether a text has a character that a reader can see.

    White space, control and format characters, and characters that Unicode ignores in display
    cannot be seen.
    """
    return bool(_seen(text))


def appearance(text: str) -> str:
    """Converts a text to a form that is the same for all texts with the same appearance.

    White space and invisible characters are removed. Differences of case, Unicode form (NFKC),
    width, quotation marks and dashes are removed too.
    """
    plain = unicodedata.normalize("NFKC", _seen(text).translate(_QUOTES))
    return _seen(unicodedata.normalize("NFKC", plain.casefold()))


def _seen(text: str) -> str:
    if text.isascii() and text.isprintable():  # This case is frequent and fast.
        return text.replace(" ", "")
    return "".join(c for c in _IGNORED.sub("", text) if unicodedata.category(c) not in _UNSEEN)
