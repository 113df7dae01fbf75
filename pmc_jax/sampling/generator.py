"""Text generation: encoding of questions, sampling, and decoding of answers."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp

from pmc_jax.config.data import DataConfig
from pmc_jax.config.run import ModelConfig
from pmc_jax.data.encode import Encoder, TokenSequence, make_encoder, shared_prefix
from pmc_jax.data.pairs import encode_pairs
from pmc_jax.distributed import multihost, preemption
from pmc_jax.distributed.mesh import Layout
from pmc_jax.errors import UserError, about
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.load import LanguageModel
from pmc_jax.sampling.buckets import largest_batch_shape, prompt_size
from pmc_jax.sampling.engine import Engine, Samples
from pmc_jax.sampling.sampler import GREEDY, Sampler
from pmc_jax.sampling.snapshot import SamplingWeights, snapshot

FindUseless = Callable[[Samples, dict[int, list[str]]], list[tuple[int, int]]]

_NAMED_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def compute_dtype(name: str) -> jnp.dtype:
    """Returns the dtype that a setting such as `model.compute_dtype` names.

    `auto` is bfloat16 on TPU and GPU. On CPU it is float32, which is faster there than bfloat16.
    """
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


@dataclasses.dataclass(frozen=True)
class TextGenerator:
    """Text generator for a language model whose weights are an argument of each call.

    Attributes:
        lm: language model with its configuration, tokenizer and mesh.
        encoder: converter from text to token ids and back.
        dtype: dtype of activations and of the sampling weights.
        cache_dtype: dtype of keys and values during sampling; None = `dtype`.
    """

    lm: LanguageModel
    encoder: Encoder
    dtype: jnp.dtype
    cache_dtype: jnp.dtype | None = None

    @staticmethod
    def of(lm: LanguageModel, settings: ModelConfig) -> "TextGenerator":
        """Builds the generator of a model.

        Args:
            lm: model that `load` returns.
            settings: settings of prompts and dtypes.

        Raises:
            UserError: the prompt format does not fit the tokenizer (see `make_encoder`), or the
                embedding has no row for a token of the prompt.
        """
        rows = lm.config.vocab_size
        with about(lm.source):
            encoder = make_encoder(lm.tokenizer, settings, lm.generation_config)
            # The template may add special tokens, for which `load` does not require a row.
            largest = max([*encoder.prompt("?"), *encoder.place.added, encoder.end_token])
            if largest >= rows:
                raise UserError(
                    f"the prompt or the end of an answer has the token id {largest}, but the "
                    f"embedding has only {rows} rows. Use the model's chat template and tokenizer."
                )
        encoder = dataclasses.replace(encoder, rows=rows)
        cache = None if settings.cache_dtype == "auto" else jnp.dtype(settings.cache_dtype)
        return TextGenerator(lm, encoder, compute_dtype(settings.compute_dtype), cache)

    def trained(self, model: Decoder) -> LanguageModel:
        """Returns the language model with the weights of `model`, ready for export.

        The `generation_config` of the result names all tokens that end an answer in this library,
        so other programs stop at the same tokens.
        """
        config = self.lm.generation_config
        if config is None:  # Without the file, transformers reads these tokens from config.json.
            config = {k: v for k in _NAMED_TOKENS if (v := self.lm.hf_config.get(k)) is not None}
        stops = config.get("eos_token_id")
        stops = list(stops) if isinstance(stops, list | tuple) else [stops]
        stops = [stop for stop in stops if stop is not None]
        stops += [stop for stop in self.encoder.end_tokens if stop not in stops]
        config = config | {"eos_token_id": stops if len(stops) > 1 else stops[0]}
        return dataclasses.replace(self.lm, model=model, generation_config=config)

    @property
    def layout(self) -> Layout:
        return self.lm.sample_layout

    def snapshot(self, model: Decoder) -> SamplingWeights:
        """Returns a copy of the weights in the layout of sampling.

        See `pmc_jax.sampling.snapshot`.
        """
        return snapshot(model, self.lm.config, self.layout, self.dtype, self.lm.layout)

    def prompts(
        self, questions: Sequence[str], max_new_tokens: int, *, ids: Sequence[str] | None = None
    ) -> list[list[int]]:
        """Encodes questions as prompts. Returns the token ids of each prompt.

        Args:
            questions: questions without a prompt template.
            max_new_tokens: maximum number of tokens in an answer.
            ids: names of the questions in error messages.

        Raises:
            UserError: a prompt and its answer do not fit into the context window of the model, or
                the chat template or the tokenizer does not accept a question.
        """

        def name(index: int) -> str:
            return f"question {index} (counted from 0)" if ids is None else ids[index]

        def encoded(index: int) -> list[int]:
            with about(name(index)):
                return self.encoder.prompt(questions[index])

        self.encoder.encode_ahead([q for i, q in enumerate(questions) if multihost.owns(i)])
        prompts = multihost.map_sharded(encoded, len(questions))
        for i, prompt in enumerate(prompts):
            window = self.lm.config.longest(len(prompt))
            if len(prompt) + max_new_tokens > window:
                raise UserError(
                    f"{name(i)}: {len(prompt)} prompt tokens and {max_new_tokens} answer tokens "
                    f"exceed the window of {window} tokens that the model has for this prompt. "
                    "Shorten the question or lower max_new_tokens."
                )
        return prompts

    def sequences(
        self,
        questions: Sequence[str],
        answers: Sequence[str],
        data: DataConfig | None,
        *,
        ids: Sequence[str],
    ) -> list[TokenSequence]:
        """Encodes question-answer pairs as training sequences, except pairs that `long_rows` drops.

        Args:
            data: settings with the length limits. No other settings are read. With None, a pair
                that does not fit into the model's window is an error.
            ids: names of the pairs in error messages.

        Raises:
            UserError: a pair cannot be encoded, see `encode_pairs`.
        """
        window = self.lm.config.max_positions
        # The setting has this maximum.
        data = data or DataConfig(max_length=min(window, 10**6))
        return encode_pairs(
            self.encoder,
            list(zip(questions, answers, strict=True)),
            ids=ids,
            max_length=data.max_length,
            long_rows=data.long_rows,
            window=window,
        )

    def engine(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        *,
        num_samples: int,
        max_new_tokens: int,
        batch_size: int,
        max_prompts: int | None = None,
        answer_prefix: Sequence[int] = (),
    ) -> Engine:
        """Creates an engine that fits all prompts and decodes up to `batch_size` answers at once.

        Args:
            prompts: token ids of each prompt.
            num_samples: number of answers per prompt.
            max_new_tokens: maximum number of tokens in an answer.
            max_prompts: maximum number of prompts in one call; None = all prompts.
            answer_prefix: token ids that end every prompt and begin every answer.

        Raises:
            UserError: the answers need more memory than is free.
        """
        # The two short questions exclude a prefix that `prompts` share only by chance.
        short = [[*self.encoder.prompt(question), *answer_prefix] for question in ("?", "A")]
        rope = self.lm.config.rope
        by_length = rope is not None and rope.kind == "longrope"
        prefix = [] if by_length else shared_prefix([*short, *prompts]).tolist()
        count, platform = min(len(prompts), max_prompts or len(prompts)), self.layout.platform
        shape = largest_batch_shape(count, num_samples, batch_size, platform=platform)
        engine = Engine(
            config=self.lm.config,
            layout=self.layout,
            sampler=sampler,
            num_samples=num_samples,
            max_new_tokens=max_new_tokens,
            end_tokens=self.encoder.end_tokens,
            batch_shape=shape,
            prompt_size=prompt_size([prompt[len(prefix) :] for prompt in prompts]),
            shared_prefix=tuple(prefix),
            cache_dtype=self.cache_dtype,
        )
        engine.check_memory(count, self.cache_dtype or self.dtype)
        return engine

    def generate(
        self,
        engine: Engine,
        weights: SamplingWeights,
        prompts: Sequence[Sequence[int]],
        *,
        is_prefilled: bool = False,
        openings: Sequence[Sequence[int]] = (),
        group: int = 1,
        find_useless: FindUseless | None = None,
        **options,
    ) -> Iterator[tuple[Samples, dict[int, list[str]]]]:
        """Runs `Engine.generate` and decodes the answers to the prompts that this process owns.

        Args:
            is_prefilled: whether the prompts end with the first tokens of the answers.
            openings: for each prompt, the token ids at its end with which its answers begin. The
                texts of the answers contain them. An empty sequence means that there are none.
            group: number of neighbouring prompts that belong to one process together.
            find_useless: function that receives the samples that are decoded and the texts of those
                that this process owns, and returns the samples to end early (see
                `Engine.generate`). The text of an unfinished sample is its beginning, see
                `Encoder.decode`.
            options: other arguments of `Engine.generate`.

        Yields:
            The samples, and a dict from prompt index to the texts of the answers.
        """
        begins = "" if is_prefilled else self.encoder.place.thought

        def decoded(samples: Samples) -> dict[int, list[str]]:
            texts = {}
            for i, question in enumerate(samples.questions.tolist()):
                if multihost.owns(question // group):
                    opening = openings[question] if openings else ()
                    rows = zip(samples.tokens[i], samples.length[i], strict=True)
                    answers = [[*opening, *row[:n]] for row, n in rows]
                    texts[question] = [
                        self.encoder.decode(answer, begins=begins, is_whole=is_whole)
                        for answer, is_whole in zip(answers, samples.is_whole[i], strict=True)
                    ]
            return texts

        def find(samples: Samples) -> list[tuple[int, int]]:
            found = multihost.gather(find_useless(samples, decoded(samples)))
            return [tuple(pair) for part in found for pair in part]

        options["find_useless"] = find if find_useless else None
        for samples in engine.generate(weights, prompts, **options):
            yield samples, decoded(samples)

    def stream(
        self,
        weights: SamplingWeights,
        questions: Sequence[str],
        sampler: Sampler,
        *,
        num_samples: int = 1,
        max_new_tokens: int = 96,
        batch_size: int = 64,
        seed: int = 0,
        ids: Sequence[int] | None = None,
        answer_prefix: str | Sequence[str] = "",
    ) -> Iterator[dict[int, list[str]]]:
        """Yields the `num_samples` answers to each question as soon as they are complete.

        Args:
            weights: weights that `snapshot` returns.
            questions: questions without a prompt template.
            sampler: settings for the choice of a token.
            num_samples: number of answers to each question.
            max_new_tokens: maximum number of tokens in an answer.
            batch_size: maximum number of answers that are decoded at the same time.
            seed: seed of the random draws.
            ids: question ids, which are part of the random seed; None = positions in `questions`.
            answer_prefix: text that every answer is forced to begin with, or one text for each
                question. The yielded answers do not contain it.

        Yields:
            A dict from the position of a question in `questions` to its answers.

        Raises:
            UserError: a question cannot be encoded or does not fit into the context window, or the
                answers need more memory than is free.
            Preempted: a stop was requested, see `preemption.check`.
        """
        if not questions:
            return
        shared = isinstance(answer_prefix, str)
        texts = [answer_prefix] * len(questions) if shared else answer_prefix
        prefixes = [self.encoder.answer_prefix(text) if text else [] for text in texts]
        added = max(map(len, prefixes)) + len(self.encoder.place.added)
        prompts = [
            [*self.encoder.before_answer(prompt), *prefix] if prefix else prompt
            for prompt, prefix in zip(
                self.prompts(questions, max_new_tokens + added), prefixes, strict=True
            )
        ]
        engine = self.engine(
            prompts,
            sampler,
            num_samples=num_samples,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            answer_prefix=prefixes[0] if shared else (),
        )
        options = dict(key=jax.random.key(seed), ids=ids or range(len(questions)))
        options["is_prefilled"] = any(prefixes)
        options["progress"] = lambda tokens: preemption.check()
        for _, texts in self.generate(engine, weights, prompts, **options):
            processes = multihost.gather(list(texts.items()))
            yield {question: answers for part in processes for question, answers in part}

    def sample(
        self,
        weights: SamplingWeights,
        questions: Sequence[str],
        sampler: Sampler,
        *,
        progress: Callable[[int], None] = lambda questions: None,
        **options,
    ) -> list[list[str]]:
        """Returns `num_samples` answers to each question, in the order of the questions.

        Args:
            weights, questions, sampler: the same as in `stream`.
            progress: function that receives the number of newly answered questions.
            options: other arguments of `stream`.

        Raises:
            UserError, Preempted: the same as in `stream`.
        """
        answers: list[list[str]] = [[] for _ in questions]
        for ended in self.stream(weights, questions, sampler, **options):
            for question, texts in ended.items():
                answers[question] = texts
            progress(len(ended))
        return answers

    def greedy(
        self, weights: SamplingWeights, questions: Sequence[str], **options
    ) -> dict[str, str]:
        """Returns a dict from each question to its greedy answer. Equal questions share an answer.

        Args:
            weights, questions: the same as in `stream`.
            options: the arguments `max_new_tokens`, `batch_size` and `progress` of `sample`.
        """
        distinct = list(dict.fromkeys(questions))
        answers = self.sample(weights, distinct, GREEDY, **options)
        return {question: answer for question, (answer,) in zip(distinct, answers, strict=True)}
