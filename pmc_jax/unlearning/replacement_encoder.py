"""Encodes a forget question and its replacement answer as a training row, with augmentation."""

from collections.abc import Sequence

import numpy as np

from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.data.records import ForgetSet
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.order import Stream, stream_rng
from pmc_jax.unlearning.extensions import question_word_dropout, sample_answer_prefix
from pmc_jax.unlearning.store import ReplacementStore

# A stored answer is tokenised again for training. It may then have a few more tokens than when it
# was sampled.
_SLACK_TOKENS = 8


class ReplacementEncoder:
    """Encoder of the rows on which PMC trains.

    Args:
        generator: the target model with its prompts and its decoding.
        forget: N forget questions.
        prompts: token ids before the answer to each question.
        store: the replacement answers.
        config: settings of the run.
        subjects: names of the subject of each question, which augmentation keeps.
        longest_opening: maximum number of tokens in an opening, or 0 if there are no openings.
        refusals: rows with refusals, which may be longer than rows with replacement answers.
    """

    def __init__(
        self,
        generator: TextGenerator,
        forget: ForgetSet,
        prompts: Sequence[list[int]],
        store: ReplacementStore,
        *,
        config: Config,
        subjects: Sequence[Sequence[str]],
        longest_opening: int,
        refusals: Sequence[TokenSequence],
    ):
        self._ids, self._questions, self._prompts = forget.ids, forget.questions, prompts
        self._encoder, self._window = generator.encoder, generator.lm.config.longest
        self._store, self._seed, self._subjects = store, config.seed, subjects
        self._augmentation = config.pmc.augmentation
        self._room = config.pmc.sampling.max_new_tokens + longest_opening + _SLACK_TOKENS
        self._room += len(self._encoder.answer(""))
        self._refusals = [len(sequence) for sequence in refusals]

    def set_originals(self, originals: Sequence[str], lengths: Sequence[int]) -> None:
        """Sets the original answers.

        Args:
            originals: original answer to each question.
            lengths: number of token ids of each original answer.
        """
        self._originals = originals
        has_prefix = self._augmentation.answer_prefix > 0
        rows = zip(self._prompts, lengths, strict=True)
        longest = [len(prompt) + has_prefix * length + self._room for prompt, length in rows]
        self._longest = max(longest + self._refusals)

    def sequence(self, index: int, step: int) -> TokenSequence:
        """Returns the tokens of a question and its stored answer, with augmentation."""
        prompt, probability = self._prompt(index, step), self._augmentation.answer_prefix
        prefix = sample_answer_prefix(self._originals[index], probability, self._seed, step, index)
        answer, begin = self._encoder.answer(prefix + self._stored(index, step)), len(prompt)
        if prefix:  # Its tokens have no loss. The white space after it is part of the next token.
            given = self._encoder.answer(prefix.rstrip())
            begin += len(shared_prefix([given, answer]))
        longest = min(self._longest, self._window(begin))
        return TokenSequence(
            np.array((prompt + answer)[:longest], np.int32), begin, self._ids[index]
        )

    def _stored(self, index: int, step: int) -> str:
        """Returns the answer to train on in a step, which is drawn if several are stored."""
        answers = self._store.answers(self._ids[index]) or ("",)
        if len(answers) == 1:
            return answers[0]
        return answers[stream_rng(self._seed, Stream.ANSWER, step, index).integers(len(answers))]

    def _prompt(self, index: int, step: int) -> list[int]:
        whole, dropout = self._prompts[index], self._augmentation.question_word_dropout
        if not dropout:
            return whole
        question = question_word_dropout(
            self._questions[index],
            dropout,
            self._seed,
            step,
            index,
            subjects=self._subjects[index],
        )
        encoder = self._encoder
        prompt = encoder.before_answer(encoder.prompt(question))
        # A word may have more tokens at the start of a text than inside a text.
        return prompt if len(prompt) <= len(whole) else whole
