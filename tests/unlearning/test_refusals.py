"""Refusals: those that ship, a file of one's own, and which is given when."""

import numpy as np
import pytest

from pmc_jax.config.method import MethodConfig
from pmc_jax.errors import UserError
from pmc_jax.unlearning.refusals import REFUSALS, refusal_of, refusals_for


def test_twenty_different_short_ones_ship():
    assert len(set(REFUSALS)) == 20
    assert all(text == text.strip() and 2 < len(text) < 50 for text in REFUSALS)
    assert refusals_for(MethodConfig(name="pmc_alignment")) == REFUSALS
    assert refusals_for(MethodConfig(name="idk")) == ("I don't know.",)
    assert refusals_for(MethodConfig(name="pmc")) == ()


def of_file(path) -> tuple[str, ...]:
    return refusals_for(MethodConfig(name="idk", refusals=str(path)))


def test_a_file_has_one_a_line(tmp_path):
    path = tmp_path / "refusals.txt"
    path.write_bytes("\ufeffNo.\r\n\n  Je ne sais pas, désolé. \n".encode())
    assert of_file(path) == ("No.", "Je ne sais pas, désolé.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "has no entries. Write one entry per line"),
        (b" \n\n", "has no entries"),
        (b"ab\xff\n", "is not UTF-8 at byte 2"),
    ],
)
def test_a_bad_file_is_one_line(content, message, tmp_path):
    path = tmp_path / "refusals.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^method.refusals: .*{message}") as caught:
        of_file(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        of_file(tmp_path)


def test_the_choice_depends_on_seed_step_and_question_only():
    chosen = [refusal_of(3, step, question, 20) for step in range(40) for question in range(50)]
    again = [refusal_of(3, step, question, 20) for step in range(40) for question in range(50)]
    assert chosen == again
    assert chosen != [refusal_of(4, step, q, 20) for step in range(40) for q in range(50)]
    # 2000 draws of 20: each about 100 times; 5 standard deviations (9.7) either way.
    counts = np.bincount(chosen, minlength=20)
    assert len(counts) == 20 and counts.min() > 50 and counts.max() < 150
