"""Defines the functions of the library that generate answers: `answer` and `sample`."""

from collections.abc import Sequence

from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.arguments import Settings, section_of
from pmc_jax.config.pmc import SamplingConfig
from pmc_jax.config.run import Config, EvaluateConfig, ModelConfig
from pmc_jax.data.sets import questions_to_forget
from pmc_jax.evaluation.context import LoadedModel
from pmc_jax.models.load import LanguageModel
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import Sampler


def answer(
    lm: LanguageModel,
    questions: Sequence[str],
    *,
    max_new_tokens: int = 96,
    batch_size: int = 64,
    model: ModelConfig | Config | Settings | None = None,
    progress: bool = False,
) -> list[str]:
    """Returns the greedy answer to each question, as one string per question.

    Args:
        lm: model that `load` returns.
        questions: questions without a prompt template.
        max_new_tokens: maximum number of tokens in an answer.
        batch_size: number of answers that are decoded at the same time.
        model: settings of prompts and dtypes, as a section, a whole `Config` or a dict.
        progress: whether to show progress bars on stderr.

    Raises:
        UserError: there is no question, a question is blank, not a string or too long, a number is
            out of range, or the answers need more memory than is free.

    Example:
        >>> answers = pmc.answer(lm, ["Where does Jane Roe live?"], max_new_tokens=8)
        >>> len(answers)
        1
    """
    generator = TextGenerator.of(lm, section_of(ModelConfig, model, "model"))
    asking = EvaluateConfig(max_new_tokens=max_new_tokens, batch_size=batch_size)
    questions = questions_to_forget(questions, "questions").questions
    answers = LoadedModel("answer", generator).greedy(questions, asking, Recorder(bars=progress))
    return [answers[question] for question in questions]


def sample(
    lm: LanguageModel,
    questions: Sequence[str],
    *,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int = 96,
    batch_size: int = 64,
    model: ModelConfig | Config | Settings | None = None,
    seed: int = 0,
) -> list[list[str]]:
    """Samples answers to each question.

    Temperature, top-k and top-p are applied in this order.

    Args:
        lm: model that `load` returns.
        questions: questions without a prompt template.
        num_samples: number of answers to each question.
        temperature: softmax temperature; 0 selects greedy decoding.
        top_p: probability mass that nucleus sampling keeps; 1 disables nucleus sampling.
        top_k: number of most likely tokens that are kept; 0 disables top-k.
        max_new_tokens: maximum number of tokens in an answer.
        batch_size: number of answers that are decoded at the same time.
        model: settings of prompts and dtypes, as a section, a whole `Config` or a dict.
        seed: seed of the random draws.

    Returns:
        A list of `num_samples` answers for each question.

    Raises:
        UserError: there is no question, a question is blank, not a string or too long, a number is
            out of range, or the answers need more memory than is free.

    Example:
        >>> samples = pmc.sample(lm, ["Where does Jane Roe live?"], num_samples=3, temperature=0.9)
        >>> [len(answers) for answers in samples]
        [3]
    """
    numbers = dict(num_samples=num_samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
    # This call raises an error if a number is out of range.
    SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, **numbers)
    generator = TextGenerator.of(lm, section_of(ModelConfig, model, "model"))
    return generator.sample(
        generator.snapshot(lm.model),
        questions_to_forget(questions, "questions").questions,
        Sampler(temperature, top_k, top_p),
        seed=seed,
        **numbers,
    )
