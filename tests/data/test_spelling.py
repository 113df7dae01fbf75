"""Words of many scripts in their original spelling."""

from pmc_jax.data.spelling import any_of, blank_separated, spelled_words, words_and_marks


def test_spelled_words():
    assert [word[0] for word in spelled_words("В_1 किताबें, 東ที่ a-b")] == [
        *["В_1", "किताबें", "東", "ที่", "a", "b"]
    ]
    assert words_and_marks("किताबें, 東!") == ["किताबें", ",", "東", "!"]
    words = [word[0] for word in blank_separated("The author's -- 東京。 мир")]
    assert words == ["The", "author's", "--", "東", "京", "мир"]


def test_a_string_is_found_where_it_stands_alone():
    find = any_of(["東京", "मे", "oslo", "a.b"]).findall
    assert find("彼は東京に住む में मे oslo osloer a.b axb") == ["東京", "मे", "oslo", "a.b"]
