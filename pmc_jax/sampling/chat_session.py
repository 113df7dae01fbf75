"""Chat with a model: the messages so far, and answers that are streamed."""

import collections
import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from pmc_jax.data import conversation, thoughts
from pmc_jax.errors import UserError
from pmc_jax.sampling.buckets import growing_prompt_size
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import GREEDY, Sampler
from pmc_jax.sampling.snapshot import SamplingWeights

# Every answer computes the keys of the whole prompt again, so the time would grow without limit.
_MAX_PROMPT = 4096


@dataclasses.dataclass(frozen=True)
class Reply:
    """Answers of a model to one question of a chat.

    Attributes:
        texts: the answers, each with the prefill with which it begins.
        num_cut: number of answers that reached the maximum number of tokens.
        num_left_out: number of oldest turns that the model no longer sees.
    """

    texts: list[str] = dataclasses.field(repr=False)
    num_cut: int
    num_left_out: int


@dataclasses.dataclass
class ChatSession:
    """Chat with one model.

    Attributes:
        generator: generator of the model.
        weights: weights that `generator.snapshot` returns.
        max_new_tokens: maximum number of tokens in an answer, without its prefill.
        batch_size: maximum number of answers that are decoded at the same time.
        seed: seed of the random draws.
        messages: role and text of each earlier message, of the user and the model in turn.
    """

    generator: TextGenerator
    weights: SamplingWeights
    max_new_tokens: int
    batch_size: int
    seed: int = 0
    messages: list[tuple[str, str]] = dataclasses.field(default_factory=list, repr=False)
    _count: int = dataclasses.field(default=0, init=False, repr=False)

    def ask(
        self,
        question: str,
        sampler: Sampler = GREEDY,
        *,
        num_samples: int = 1,
        prefill: str = "",
        on_text: Callable[[str], None] = lambda text: None,
    ) -> Reply:
        """Answers a question and adds it to the messages, with its most frequent answer.

        If the prompt is too long, the oldest turns are removed. The messages stay as they are if
        `on_text` raises an error.

        Args:
            question: the question.
            sampler: settings for the choice of a token.
            num_samples: number of answers.
            prefill: text with which the answers begin.
            on_text: function that receives the text of the first answer after each token.

        Raises:
            UserError: the question cannot be encoded or does not fit into the context window, or
                the answers need more memory than is free.
        """
        encoder = self.generator.encoder
        prefix = encoder.answer_prefix(prefill) if prefill else []
        prompt, num_left_out = self._prompt(question, prefix)
        begins = "" if prefix else encoder.place.thought
        sizes = dict(num_samples=num_samples, max_new_tokens=self.max_new_tokens)
        engine = self.generator.engine([prompt], sampler, batch_size=self.batch_size, **sizes)
        engine = dataclasses.replace(
            engine,
            prompt_size=growing_prompt_size(len(prompt)),
            shared_prefix=(),
            decode_chunk=1,
            max_buckets=1,
        )

        tag = "" if encoder.is_chat else encoder.settings.answer_tag.strip()

        def on_tokens(tokens: np.ndarray) -> None:
            first = tokens[0, 0]
            text = encoder.decode([*prefix, *first[first >= 0]], begins=begins)
            on_text("" if tag.startswith(text) else text)  # Only the whole tag is removed.

        ((samples, texts),) = self.generator.generate(
            engine,
            self.weights,
            [prompt],
            is_prefilled=bool(prefix),
            openings=[prefix],
            key=jax.random.key(self.seed),
            ids=[self._count],
            on_tokens=on_tokens,
        )
        self._count += 1
        ((frequent, _),) = collections.Counter(texts[0]).most_common(1)
        new = [("user", question), ("assistant", thoughts.answer_of(frequent))]
        self.messages = [*self.messages[2 * num_left_out :], *new]
        return Reply(texts[0], int(np.sum(~samples.ended)), num_left_out)

    def _prompt(self, question: str, prefix: list[int]) -> tuple[list[int], int]:
        """Returns the token ids of the prompt, and the number of oldest turns that do not fit."""
        encoder, config = self.generator.encoder, self.generator.lm.config
        for skipped in range(len(self.messages) // 2 + 1):
            messages = [*self.messages[2 * skipped :], ("user", question)]
            prompt = encoder.prompt(conversation.join(messages))
            if prefix:
                prompt = [*encoder.before_answer(prompt), *prefix]
            window = config.longest(len(prompt))
            if len(prompt) <= _MAX_PROMPT and len(prompt) + self.max_new_tokens <= window:
                return prompt, skipped
        raise UserError(
            f"the question has {len(prompt)} prompt tokens, but the model's window of {window} "
            f"tokens leaves {min(_MAX_PROMPT, window - self.max_new_tokens)} for the prompt. "
            "Shorten the question or the prefill, or lower evaluate.max_new_tokens."
        )
