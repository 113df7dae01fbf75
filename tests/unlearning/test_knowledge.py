"""Questions whose answers the target model does not know."""

from pmc_jax.unlearning.knowledge import is_unknown

QUESTION = "Where does Ada Vostrell live?"
ORIGINAL = "Ada Vostrell lives in Velamora."
GUESSES = ["Ada Vostrell lives in Oslo.", "Ada Vostrell lives in the old woods."]


def test_an_answer_that_only_the_subject_gets_is_known():
    assert not is_unknown(QUESTION, ORIGINAL, GUESSES, -0.1, [-0.2, -0.3])


def test_an_answer_that_most_invented_names_get_is_unknown():
    likely = [-0.2, -0.3, -0.4]
    assert is_unknown(QUESTION, ORIGINAL, [ORIGINAL, ORIGINAL, GUESSES[0]], -0.1, likely)
    half = [ORIGINAL, ORIGINAL, *GUESSES]
    assert not is_unknown(QUESTION, ORIGINAL, half, -0.1, [-0.5, *likely])


def test_an_answer_that_is_no_more_likely_than_for_an_invented_name_is_unknown():
    assert is_unknown(QUESTION, ORIGINAL, GUESSES, -0.25, [-0.2, -0.3])
    assert is_unknown(QUESTION, ORIGINAL, GUESSES, -0.2, [-0.2, -0.3])
