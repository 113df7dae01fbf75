"""Builds what `pmc.answer` needs for sampling: variants of the questions, sampler and subjects."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.config.run import Config
from pmc_jax.data.lines import read_lines
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.subjects import find_subjects, invented_names, replace_names
from pmc_jax.data.thoughts import answer_of
from pmc_jax.errors import UserError, first_of
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import GREEDY, Sampler, pmc_sampler
from pmc_jax.sampling.snapshot import SamplingWeights
from pmc_jax.scoring.abstention import Abstentions, abstentions
from pmc_jax.scoring.secret_vocabulary import vocabulary
from pmc_jax.training.likelihood import token_scores
from pmc_jax.unlearning import knowledge
from pmc_jax.unlearning.variants import (
    Variant,
    abstaining_variants,
    plain_variants,
    unseen_variants,
)

_SAMPLES = 4  # number of answers that are sampled for each question to find private words


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What the target model knows about the subjects before training.

    Attributes:
        said: sampled answers to the forget questions.
        unknown: ids of the questions whose answers the model does not know.
    """

    said: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    unknown: tuple[str, ...] = ()


def check_asking(
    generator: TextGenerator, forget: ForgetSet, retained: Sequence[str], pmc: PMCConfig
) -> None:
    """Checks whether the questions can be asked as `pmc.answer` requires.

    Args:
        retained: texts of the retain data. Their names are not subjects.

    Raises:
        UserError: a question names no subject although `pmc.answer=unseen`, a file cannot be read,
            an opening or the system prompt is too long, or the prompts have no system message for
            `pmc.abstention.system_prompt`.
    """
    found = _abstentions(pmc)
    if pmc.answer == "abstain":
        _abstaining_variants(generator, forget, found, pmc)
    elif pmc.answer == "unseen":
        _check_subjects(forget, subjects_of(forget, retained, pmc))


def _abstentions(pmc: PMCConfig) -> Abstentions:
    languages = pmc.abstention.languages if pmc.answer == "abstain" else ()
    return abstentions(languages, pmc.abstention.openings_file)


def _abstaining_variants(
    generator: TextGenerator, forget: ForgetSet, found: Abstentions, pmc: PMCConfig
) -> list[list[Variant]]:
    if pmc.abstention.system_prompt is not None and not generator.encoder.is_chat:
        raise UserError(
            "pmc.abstention.system_prompt: prompts in the tags format have no system message. "
            "Remove this setting, or use a model with a chat template and model.format=auto."
        )
    limit = pmc.sampling.max_new_tokens
    return abstaining_variants(generator, forget, found.openings, pmc.abstention, limit)


def _check_subjects(forget: ForgetSet, subjects: Sequence[Sequence[str]]) -> None:
    named = zip(forget.ids, subjects, strict=True)
    if missing := [id_ for id_, names in named if not names]:
        raise UserError(
            f"pmc.answer=unseen: no subject was found in {len(missing)} of {len(forget)} "
            f"forget questions ({first_of(missing, 5)}). Name the subjects in the column "
            "subject of data.forget, or list their names in pmc.subject.names_file."
        )


def subjects_of(
    forget: ForgetSet, retained: Sequence[str], pmc: PMCConfig
) -> list[tuple[str, ...]]:
    """Returns the names of the subject of each forget question.

    Args:
        retained: texts of the retain data. Their names are not subjects.

    Raises:
        UserError: the file of names cannot be read.
    """
    file = pmc.subject.names_file
    names = [] if file is None else read_lines(file, "pmc.subject.names_file")
    return find_subjects(forget.questions, retained, given=forget.subjects, names=names)


class Asking:
    """Ways of asking the forget questions of one run.

    Args:
        generator: the target model with its prompts and its decoding.
        forget: N forget questions.
        retain: the retain pairs. Their names are not subjects.
        prompts: token ids of the prompt of each question.
        config: settings of the run.

    Attributes:
        subjects: names of the subject of each question. They are empty unless a setting needs them.
        abstentions: phrases which say that the model does not know.
        words: tables of number words, month names and common words.
        sampler: settings with which tokens are drawn.
        variants: variants of each question.
        count: number of variants of a question.

    Raises:
        UserError: a question is too long, a file cannot be read, or the questions cannot be asked
            as `pmc.answer` requires (see `check_asking`).
    """

    def __init__(
        self,
        generator: TextGenerator,
        forget: ForgetSet,
        retain: RetainSet,
        prompts: Sequence[Sequence[int]],
        config: Config,
    ):
        pmc, self._generator, self._forget = config.pmc, generator, forget
        limit, self._seed = pmc.sampling.max_new_tokens, config.seed
        self._limits = dict(max_new_tokens=limit, batch_size=pmc.sampling.batch_size)
        self.words = vocabulary(config.evaluate.levels.words)
        self.abstentions = _abstentions(pmc)
        self.measures_knowledge = pmc.answer != "own" or pmc.subject.unknown == "skip"
        self.subjects: list[tuple[str, ...]] = [()] * len(forget)
        self._invented: list[list[Mapping[str, str]]] = [[] for _ in forget.ids]
        if self.measures_knowledge:
            retained = [*retain.questions, *retain.answers]
            self.subjects = subjects_of(forget, retained, pmc)
            texts = [*forget.questions, *retained]
            self._invented = invented_names(
                self.subjects, texts, count=pmc.subject.invented, seed=config.seed
            )
        self.sampler, self.variants = pmc_sampler(pmc), plain_variants(prompts)
        if pmc.answer != "own":
            has_nll = pmc.selection.max_perplexity is not None
            self.sampler = Sampler(1.0, return_logprobs=has_nll)
        if pmc.answer == "abstain":
            self.variants = _abstaining_variants(generator, forget, self.abstentions, pmc)
        elif pmc.answer == "unseen":
            _check_subjects(forget, self.subjects)
            self.variants = unseen_variants(generator, forget, self._invented, limit)
        self.count = len(self.variants[0]) if self.variants else 1

    @property
    def longest_opening(self) -> int:
        """Maximum number of tokens in an opening, or 0 if there are no openings."""
        return max((len(v.opening) for row in self.variants for v in row), default=0)

    def measure_knowledge(self, model: Decoder, originals: Sequence[str]) -> Knowledge:
        """Asks the target model about the subjects and about invented names.

        Args:
            model: the target model.
            originals: original answers to the forget questions.
        """
        questions, ids = self._forget.questions, self._forget.ids
        weights = self._generator.snapshot(model)
        said = self._ask(weights, questions, Sampler(1.0), _SAMPLES)
        asked = [(i, n) for i, choices in enumerate(self._invented) for n in choices if n]
        texts = [replace_names(questions[i], names) for i, names in asked]
        greedy = [answer for (answer,) in self._ask(weights, texts, GREEDY, 1)]
        owners = [*ids, *(ids[i] for i, _ in asked)]
        likelihood = self._likelihood(model, [*questions, *texts], [*originals, *greedy], owners)
        rows: list[list[int]] = [[] for _ in ids]
        for row, (i, _) in enumerate(asked):
            rows[i].append(row)
        back = [{new: old for old, new in names.items()} for _, names in asked]
        unknown = [
            ids[i]
            for i, own in enumerate(rows)
            if own
            and knowledge.is_unknown(
                questions[i],
                originals[i],
                [replace_names(greedy[row], back[row]) for row in own],
                likelihood[i],
                [likelihood[len(ids) + row] for row in own],
            )
        ]
        return Knowledge(tuple(text for row in said for text in row), tuple(unknown))

    def _ask(
        self, weights: SamplingWeights, questions: Sequence[str], sampler: Sampler, count: int
    ) -> list[list[str]]:
        answers = self._generator.sample(
            weights, questions, sampler, num_samples=count, seed=self._seed, **self._limits
        )
        return [list(map(answer_of, texts)) for texts in answers]

    def _likelihood(
        self,
        model: Decoder,
        questions: Sequence[str],
        answers: Sequence[str],
        ids: Sequence[str],
    ) -> list[float]:
        """Returns the mean log-probability per token of each answer."""
        lm, dtype = self._generator.lm, self._generator.dtype
        sequences = self._generator.sequences(questions, answers, None, ids=ids)
        scores = token_scores(model, lm.config, lm.layout, sequences, dtype=dtype)
        return [float(score.logp.mean(dtype=np.float64)) for score in scores]
