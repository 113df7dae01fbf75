"""Training rows of forget questions: which tokens have a loss after an answer prefix."""

import types

import pytest
from tiny_gguf import byte_level_vocabulary
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pmc_jax.config.run import ModelConfig, config_from_overrides
from pmc_jax.data.encode import make_encoder
from pmc_jax.data.records import ForgetSet
from pmc_jax.unlearning.replacement_encoder import ReplacementEncoder

pytestmark = pytest.mark.quick

QUESTION, ORIGINAL, STORED = "the year?", "the café in the year 1987", "and the number"


def test_the_white_space_after_an_answer_prefix_belongs_to_the_replacement_answer():
    """Byte-level tokens begin with the white space before a word."""
    tokens, merges = byte_level_vocabulary()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, [tuple(merge.split()) for merge in merges]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    encoder = make_encoder(tokenizer, ModelConfig(question_tag="{question}\n", answer_tag="> "))
    lm = types.SimpleNamespace(config=types.SimpleNamespace(longest=lambda length: 100))
    prompt = encoder.prompt(QUESTION)
    rows = ReplacementEncoder(
        types.SimpleNamespace(encoder=encoder, lm=lm),
        ForgetSet(("f:0",), (QUESTION,)),
        [prompt],
        types.SimpleNamespace(answers=lambda id_: (STORED,)),
        config=config_from_overrides(
            ["pmc.augmentation.answer_prefix=0.9", "pmc.augmentation.question_word_dropout=0"]
        ),
        subjects=[()],
        longest_opening=0,
        refusals=[],
    )
    rows.set_originals([ORIGINAL], [len(encoder.answer(ORIGINAL))])
    found = set()
    for step in range(60):
        row = rows.sequence(0, step)
        assert row.tokens[: len(prompt)].tolist() == prompt
        parts = row.tokens[len(prompt) : row.begin], row.tokens[row.begin :]
        found.add(tuple(map(tokenizer.decode, parts)))
    trained = f" {STORED}<|endoftext|>"
    prefixes = ["> the", "> the café", "> the café in", "> the café in the"]
    prefixes.append("> the café in the year")
    assert found == {("", f">{trained}"), *((prefix, trained) for prefix in prefixes)}
