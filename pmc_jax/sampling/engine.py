"""Engine that generates several answers to each prompt, with continuous batching.

The engine handles token ids, not text. `pmc_jax.sampling.batching` assigns the samples to the slots
of the decode batch and defines the terms.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.distributed.memory import check_memory
from pmc_jax.distributed.mesh import Layout, round_up
from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.sampling.batching import ContinuousBatching, Usage
from pmc_jax.sampling.buckets import batch_buckets
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.scheduler import Scheduler
from pmc_jax.sampling.snapshot import SamplingWeights


@dataclasses.dataclass(frozen=True)
class Samples:
    """K answers to each of Q questions.

    Attributes:
        questions: [Q], question indices, which are positions in the list of prompts.
        tokens: i32[Q,K,max_new_tokens], token ids without the end token; -1 after the end.
        length: i32[Q,K], number of tokens before the end.
        ended: bool[Q,K], whether the sample has an end token.
        is_whole: bool[Q,K], whether the sample has an end token or max_new_tokens tokens. Other
            samples were ended early, or are still decoded.
        mean_nll: f64[Q,K], mean negative log-probability of the tokens before the end, at
            temperature 1 over the full vocabulary. It is nan for a sample without tokens, and 0 if
            the sampler returns no log-probabilities.
    """

    questions: np.ndarray
    tokens: np.ndarray
    length: np.ndarray
    ended: np.ndarray
    is_whole: np.ndarray
    mean_nll: np.ndarray


@dataclasses.dataclass(frozen=True)
class Engine:
    """Sampling engine with fixed settings and array shapes.

    Attributes:
        config: configuration of the decoder.
        layout: mesh and sharding rules of the sampling weights.
        sampler: settings for the choice of a token.
        num_samples: number of answers per prompt.
        max_new_tokens: maximum number of tokens in an answer, the end token included.
        end_tokens: token ids that end an answer.
        batch_shape: number of rows and number of slots per row in the largest decode batch. The
            rows are rounded up to a multiple of `layout.row_multiple`.
        prompt_size: number of tokens to which prompts are padded after their shared prefix, so that
            all prompts have one shape.
        shared_prefix: token ids that every prompt begins with. They are prefilled once for all
            prompts. The prefix is empty with `longrope`, whose keys depend on the prompt length.
        cache_dtype: dtype of keys and values; None = dtype of the weights.
        prefill_batch: maximum number of prompts that are prefilled together, rounded up likewise.
        decode_chunk: maximum number of steps in one call of the decoder.
        refill_fraction: while samples wait, a call of the decoder ends early when this fraction of
            the slots has become idle.
        max_buckets: maximum number of batch shapes.
        min_slots: minimum number of slots in a smaller batch. With fewer than eight slots, a step
            only takes the time to read the weights, so a smaller batch saves nothing.
    """

    config: DecoderConfig
    layout: Layout
    sampler: Sampler
    num_samples: int
    max_new_tokens: int
    end_tokens: tuple[int, ...]
    batch_shape: tuple[int, int]
    prompt_size: int
    shared_prefix: tuple[int, ...] = ()
    cache_dtype: jnp.dtype | None = None
    prefill_batch: int = 16
    decode_chunk: int = 16
    refill_fraction: float = 1 / 16
    max_buckets: int = 4
    min_slots: int = 8

    def buckets(self) -> list[tuple[int, int]]:
        """Returns the batch shapes (rows, slots per row), from the largest to the smallest."""
        return batch_buckets(
            self.batch_shape,
            self.layout.row_multiple,
            max_buckets=self.max_buckets,
            min_slots=self.min_slots,
        )

    def device_bytes(self, dtype: jnp.dtype) -> int:
        """Returns the bytes of the caches and the logits on all devices together.

        Args:
            dtype: dtype of keys and values.
        """
        config, (rows, width) = self.config, self.buckets()[0]
        answer_size = round_up(max(self.max_new_tokens - 1, 1), self.decode_chunk)
        token_bytes = 2 * config.num_kv_heads * config.head_dim * jnp.dtype(dtype).itemsize
        cached = rows * self.prompt_size + rows * width * answer_size
        return cached * config.num_layers * token_bytes + rows * width * config.vocab_size * 4

    def check_memory(self, num_prompts: int, dtype: jnp.dtype) -> None:
        """Checks whether the caches, the logits and the results of one call fit into memory.

        Args:
            num_prompts: number of prompts in the call.
            dtype: dtype of keys and values.

        Raises:
            UserError: the call needs more memory than is free.
        """
        rows, width = self.buckets()[0]
        slots, answers = rows * width, num_prompts * self.num_samples
        more = ", the number of answers to each question" if self.num_samples > 1 else ""
        check_memory(
            f"Sampling {answers:,} answers of up to {self.max_new_tokens:,} tokens, up to "
            f"{slots:,} of them at the same time,",
            f"Lower batch_size{more} or max_new_tokens.",
            self.layout.mesh,
            on_devices=self.device_bytes(dtype),
            # Every token has an id, a log-probability and random numbers.
            on_host=answers * self.max_new_tokens * 4 * (2 + self.sampler.draws),
        )

    def generate(
        self,
        weights: SamplingWeights,
        prompts: Sequence[Sequence[int]],
        *,
        key: jax.Array,
        ids: Sequence[int],
        expected: Sequence[int] | None = None,
        usage: Usage | None = None,
        progress: Callable[[int], None] = lambda tokens: None,
        on_tokens: Callable[[np.ndarray], None] = lambda tokens: None,
        find_useless: Callable[[Samples], Iterable[tuple[int, int]]] | None = None,
    ) -> Iterator[Samples]:
        """Generates answers. Yields all answers to a question as soon as the last of them ends.

        In float32, a sample depends only on the weights, its prompt, `key`, its question id and its
        number among the answers, and not on other samples in the batch or the number of devices.
        The device keeps decoding while the caller processes yielded samples.

        Args:
            weights: snapshot of the weights.
            prompts: token ids of each prompt.
            key: jax.random key.
            ids: question id of each prompt, which is part of the random seed.
            expected: expected number of tokens in the answers to each prompt. The prompts with the
                largest numbers start first.
            usage: counters that the call increments.
            progress: function that receives, after each call of the decoder, the number of tokens
                that this call generated.
            on_tokens: function that receives, after the first prefill and after each call of the
                decoder, all tokens so far: i32[Q,K,max_new_tokens], end tokens included; -1 after
                the newest token. It must not change them.
            find_useless: function that receives all samples of the questions that are decoded, and
                returns the samples to end early, as pairs of a question index and the number of a
                sample. It runs while the device decodes further tokens.

        Raises:
            UserError: a prompt does not begin with the shared prefix, or it does not have 1 to
                `prompt_size` tokens after the prefix.
        """
        skip = len(self.shared_prefix)
        for i, prompt in enumerate(prompts):
            if tuple(prompt[:skip]) != self.shared_prefix:
                raise UserError(
                    f"prompt {i} does not begin with the engine's shared prefix. Choose a prefix "
                    "that all prompts begin with."
                )
            if not 0 < len(prompt) - skip <= self.prompt_size:
                raise UserError(
                    f"prompt {i} has {len(prompt)} tokens, but the engine accepts {skip + 1} to "
                    f"{skip + self.prompt_size} tokens. Change the prompt or prompt_size."
                )
        order = list(range(len(prompts)))
        if expected is not None:
            order.sort(key=lambda i: -expected[i])
        run = ContinuousBatching(self, weights, prompts, order, key, ids, usage or Usage())
        ended = run.prepare()
        on_tokens(run.scheduler.tokens)
        while run.decode():
            if ended:
                yield self._samples(run.scheduler, ended)
            useless = ()
            if find_useless is not None:
                useless = find_useless(self._samples(run.scheduler, run.scheduler.unfinished()))
            useful, ended = run.collect()
            ended += run.end_early(useless)
            progress(useful)
            on_tokens(run.scheduler.tokens)
            ended += run.prepare()
        if ended:
            yield self._samples(run.scheduler, ended)

    def _samples(self, scheduler: Scheduler, questions: list[int]) -> Samples:
        tokens = scheduler.tokens[questions]
        ends = np.isin(tokens, self.end_tokens)
        ended = ends.any(-1)
        length = np.where(ended, ends.argmax(-1), scheduler.count[questions])
        over = np.arange(self.max_new_tokens) >= length[..., None]
        tokens[over] = -1
        with np.errstate(invalid="ignore"):
            mean_nll = np.where(over, 0, scheduler.nll[questions]).sum(-1) / length
        is_whole = ended | (length == self.max_new_tokens)
        length = length.astype(np.int32)
        return Samples(np.array(questions), tokens, length, ended, is_whole, mean_nll)
