"""Questions in, answers out: the sampling engine with text on both sides."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp

from pmc_jax.config.run import DataConfig, ModelConfig, PMCConfig
from pmc_jax.data.encode import Encoder, TokenSequence, encode_pairs, make_encoder, shared_prefix
from pmc_jax.distributed import multihost, preemption
from pmc_jax.distributed.mesh import Layout
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.load import LanguageModel
from pmc_jax.sampling.buckets import grid_shape, prompt_size
from pmc_jax.sampling.engine import Engine, Samples, Usage
from pmc_jax.sampling.sampler import GREEDY, Sampler
from pmc_jax.sampling.snapshot import SamplingWeights, snapshot


def compute_dtype(name: str) -> jnp.dtype:
    """`auto` is bfloat16 on TPU and GPU, and float32 on CPU, where bfloat16 products are slower."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


def pmc_sampler(pmc: PMCConfig) -> Sampler:
    """How PMC draws its samples."""
    return Sampler(
        pmc.sampling.temperature,
        pmc.sampling.top_k,
        pmc.sampling.top_p,
        pmc.sampling.temperature_decay_tokens if pmc.sampling.temperature else 0,
        pmc.sampling.final_temperature,
        return_logprobs=pmc.selection.max_perplexity is not None,
    )


@dataclasses.dataclass(frozen=True)
class TextGenerator:
    """A language model's way to be asked: encoder, sampling layout and dtype; the weights come
    with each call.

    Attributes:
        lm: configuration, tokenizer and mesh.
        encoder: text to tokens.
        dtype: of activations and of the snapshot.
        cache_dtype: of keys and values while sampling; None = `dtype`.
    """

    lm: LanguageModel
    encoder: Encoder
    dtype: jnp.dtype
    cache_dtype: jnp.dtype | None = None

    @staticmethod
    def of(lm: LanguageModel, settings: ModelConfig) -> "TextGenerator":
        encoder = make_encoder(lm.tokenizer, settings, lm.generation_config)
        cache = None if settings.cache_dtype == "auto" else jnp.dtype(settings.cache_dtype)
        return TextGenerator(lm, encoder, compute_dtype(settings.compute_dtype), cache)

    @property
    def layout(self) -> Layout:
        return self.lm.sample_layout

    def snapshot(self, model: Decoder) -> SamplingWeights:
        """The weights as sampling reads them."""
        return snapshot(model, self.lm.config, self.layout, self.dtype, self.lm.layout)

    def prompts(
        self, questions: Sequence[str], max_new_tokens: int, *, ids: Sequence[str] | None = None
    ) -> list[list[int]]:
        """Token ids of the prompts; `ids` name the questions in a message.

        Raises:
            UserError: a prompt that leaves no room for the answer in the model's window.
        """
        prompts = multihost.map_sharded(lambda i: self.encoder.prompt(questions[i]), len(questions))
        for i, prompt in enumerate(prompts):
            window = self.lm.config.longest(len(prompt))
            if len(prompt) + max_new_tokens > window:
                name = f"question {i}" if ids is None else ids[i]
                raise UserError(
                    f"{name}: {len(prompt)} prompt tokens and {max_new_tokens} new ones do "
                    f"not fit the model's window of {window}; shorten the question or lower "
                    "max_new_tokens"
                )
        return prompts

    def sequences(
        self,
        questions: Sequence[str],
        answers: Sequence[str],
        data: DataConfig,
        *,
        ids: Sequence[str],
    ) -> list[TokenSequence]:
        """Training sequences of question-answer pairs; of `data` the limits are read.

        Raises:
            UserError: see `encode_pairs`.
        """
        return encode_pairs(
            self.encoder,
            list(zip(questions, answers, strict=True)),
            ids=ids,
            max_length=data.max_length,
            long_rows=data.long_rows,
            window=self.lm.config.max_positions,
        )

    def engine(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        *,
        num_samples: int,
        max_new_tokens: int,
        batch_size: int,
        most: int | None = None,
        tail: Sequence[int] = (),
    ) -> Engine:
        """An engine whose shapes hold all of `prompts`; `batch_size` answers are decoded at once.

        Args:
            most: prompts that one call brings at most; None = all of them.
            tail: token ids that every one of `prompts` ends with.
        """
        # Two short questions beside the given ones: what those happen to share is no opening.
        probes = [[*self.encoder.prompt(question), *tail] for question in ("?", "A")]
        rope = self.lm.config.rope
        by_length = rope is not None and rope.kind == "longrope"
        opening = [] if by_length else shared_prefix([*probes, *prompts]).tolist()
        return Engine(
            config=self.lm.config,
            layout=self.layout,
            sampler=sampler,
            num_samples=num_samples,
            max_new_tokens=max_new_tokens,
            end_tokens=self.encoder.end_tokens,
            grid=grid_shape(
                min(len(prompts), most or len(prompts)),
                num_samples,
                batch_size,
                platform=self.layout.platform,
            ),
            prompt_size=prompt_size([prompt[len(opening) :] for prompt in prompts]),
            opening=tuple(opening),
            cache_dtype=self.cache_dtype,
        )

    def texts(
        self,
        engine: Engine,
        weights: SamplingWeights,
        prompts: Sequence[Sequence[int]],
        **options,
    ) -> Iterator[tuple[Samples, dict[int, list[str]]]]:
        """`Engine.generate` with decoded answers: K texts by the number of the prompt, for this
        process's share of the prompts.
        """
        for samples in engine.generate(weights, prompts, **options):
            texts = {
                row: [self.text(samples, i, k) for k in range(engine.num_samples)]
                for i, row in enumerate(samples.rows.tolist())
                if multihost.owns(row)
            }
            yield samples, texts

    def text(self, samples: Samples, index: int, sample: int) -> str:
        """One answer of `samples`."""
        return self.encoder.decode(samples.tokens[index, sample, : samples.length[index, sample]])

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
        numbers: Sequence[int] | None = None,
        begin: str = "",
        usage: Usage | None = None,
    ) -> Iterator[dict[int, list[str]]]:
        """`num_samples` answers by the index of their question, as they end.

        Args:
            numbers: of the questions, by which their samples differ; None = their indices.
            begin: text that every answer is made to begin with; it is not in what is given back.

        Raises:
            UserError: see `prompts`.
            Preempted: the process was asked to stop.
        """
        if not questions:
            return
        opening = self.encoder.opening(begin) if begin else []
        prompts = [p + opening for p in self.prompts(questions, max_new_tokens + len(opening))]
        engine = self.engine(
            prompts,
            sampler,
            num_samples=num_samples,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            tail=opening,
        )
        options = dict(key=jax.random.key(seed), ids=numbers or range(len(questions)), usage=usage)
        options["progress"] = lambda tokens: preemption.check()
        for _, texts in self.texts(engine, weights, prompts, **options):
            shares = multihost.gather(list(texts.items()))
            yield {row: answers for share in shares for row, answers in share}

    def sample(
        self,
        weights: SamplingWeights,
        questions: Sequence[str],
        sampler: Sampler,
        *,
        progress: Callable[[int], None] = lambda questions: None,
        **options,
    ) -> list[list[str]]:
        """`num_samples` answers to each question, in the order of the questions; options and
        exceptions as of `stream`.
        """
        answers: list[list[str]] = [[] for _ in questions]
        for ended in self.stream(weights, questions, sampler, **options):
            for row, texts in ended.items():
                answers[row] = texts
            progress(len(ended))
        return answers

    def greedy(self, weights: SamplingWeights, questions: Sequence[str], **options) -> list[str]:
        """The most likely answer, token by token, to each question."""
        return [texts[0] for texts in self.sample(weights, questions, GREEDY, **options)]
