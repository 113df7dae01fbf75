"""Rule by which `pmc init` sizes the settings of a run to its data, its model and its device.

docs/reference/first-settings.md has the table of the rule and says what was measured. The rule
shares a few replacement answers among all questions, because this leaked least at the same utility
(docs/results/unlearning.md#shared-answers). It trains adapters and adds the model's own answers to
the retain data, because this kept most of the answers that no retain row names.
"""

import dataclasses
import math
from collections.abc import Sequence

# With the model's own answers alone, each further step costs more of what no question asks for.
_LEAST_STEPS = (72, 180)  # for few and for many questions
_LEAST_STEPS_OWN = 60
_LEAST_EPOCHS, _LEAST_EPOCHS_OWN = 12, 10
# Many questions share their replacement answers, so that each question needs fewer steps.
_MANY_STEPS, _FEWEST_EPOCHS = 250, 5
_RANK = 16
FEW = 16  # most questions that count as few
# Weights of the retain rows for few and for many questions.
_LAMBDA, _LAMBDA_OWN = (8.0, 4.0), (10.0, 4.0)
_FOCUS_OWN = 0.5
# Learning rates of adapters by the number of weights. The first was measured. The second is lower
# by as much as the published rate for all weights of such models is lower than the measured one.
_RATES = ((135e6, 1e-3), (1.3e9, 1.2e-4))
_LONG_WORDS = 20  # From this median length on, original answers share words with every sentence.
_SHARE_FOR_ANSWERS = 0.1  # of the free memory


@dataclasses.dataclass(frozen=True)
class Situation:
    """What the rule reads.

    Attributes:
        questions: number of forget questions.
        weights: number of weights of the model.
        answer_tokens: most tokens in an original answer.
        answer_words: median number of words in an original answer.
        row_tokens: most tokens in a question and its answer.
        token_bytes: bytes of the keys and values of one token in all layers.
        free_bytes: memory that a run may use.
        on_cpu: whether the device is a CPU.
        has_retain_rows: whether retain rows are given, or will be.
    """

    questions: int
    weights: int
    answer_tokens: int
    answer_words: float
    row_tokens: int
    token_bytes: int
    free_bytes: float
    on_cpu: bool
    has_retain_rows: bool

    @property
    def has_long_answers(self) -> bool:
        return self.answer_words >= _LONG_WORDS


@dataclasses.dataclass(frozen=True)
class Choice:
    """Value of a setting and the reason for it.

    Attributes:
        name: dotted name of the setting.
        why: what the setting does and why it has this value, in one line.
    """

    name: str
    value: int | float | bool | str | list[str]
    why: str


def first_settings(s: Situation) -> list[Choice]:
    """Returns the settings of a first run, in the order in which the file lists them."""
    rows, epochs = step_rows(s.questions), epochs_of(s)
    steps = -(-s.questions * epochs // rows)
    room, at_once = answer_room(s.answer_tokens), answers_at_once(s)
    device = "on a CPU" if s.on_cpu else f"for {_memory(s)}"
    per_round = min(max(4, -(-s.questions // rows)), 10)
    kind = f"long, {s.answer_words:.0f} words" if s.has_long_answers else "short"
    here = f"; here: {s.row_tokens}" if s.row_tokens else ""
    choices = [
        ("pmc.sampling.num_samples", 20, "answers sampled for each question in one attempt"),
        ("pmc.sampling.max_attempts", 6, "most attempts in a round, until an answer is forgotten"),
        ("pmc.sampling.max_new_tokens", room, f"most tokens of an answer; here: {s.answer_tokens}"),
        ("pmc.sampling.batch_size", at_once, f"answers decoded at once, {device}"),
        ("pmc.score.threshold", _threshold(s), f"share of words that may stay; answers are {kind}"),
        ("pmc.selection.share_answers", True, "a few answers for all questions leak least"),
        (
            "pmc.augmentation.answer_prefix",
            0.5,
            "also unlearns answers that an attacker begins",
        ),
        ("pmc.schedule.epochs", epochs, f"{steps} steps: {s.questions} questions, {rows} a step"),
        ("pmc.schedule.steps_per_round", per_round, "steps between two rounds of sampling"),
        ("pmc.schedule.retain_rows", 3, "retain rows for each forget row"),
        (
            "pmc.schedule.lambda_retain",
            _lambda(s),
            "weight of the retain rows: lower forgets more, higher keeps more",
        ),
        ("train.batch_size", rows, f"forget rows a step, for {s.questions} questions"),
        (
            "train.learning_rate",
            learning_rate(s.weights),
            f"for adapters, {s.weights / 1e6:,.0f} million weights",
        ),
        ("train.warmup_steps", steps // 2, "half of the steps, which protects other answers"),
        ("train.lora.rank", _RANK, "adapters keep more of what no row asks for"),
        ("evaluate.max_new_tokens", room, "as for sampling, so that original answers are reused"),
        ("evaluate.batch_size", at_once, "answers decoded at once, as for sampling"),
        ("data.max_length", row_room(s.row_tokens), f"most tokens of a row{here}"),
    ]
    if not s.has_retain_rows:
        why = "share of forget rows that repeat questions which are still answered"
        choices.append(("pmc.schedule.focus", _FOCUS_OWN, why))
    return [Choice(*choice) for choice in choices]


def step_rows(questions: int) -> int:
    """Returns the number of forget rows in a step: 2 up to 16 questions, 4 up to 80, then 8."""
    return min(questions, 2 if questions <= FEW else 4 if questions <= 80 else 8)


def epochs_of(s: Situation) -> int:
    """Returns the number of epochs: 12, or more for at least 72 steps (180 above 16 questions).

    Without retain rows, it is 10, or more for at least 60 steps. In both cases, it is lower where a
    run would have more than 250 steps, but at least 5.
    """
    rows = step_rows(s.questions)
    steps = _LEAST_STEPS[s.questions > FEW] if s.has_retain_rows else _LEAST_STEPS_OWN
    epochs = _LEAST_EPOCHS if s.has_retain_rows else _LEAST_EPOCHS_OWN
    most = max(_FEWEST_EPOCHS, _MANY_STEPS * rows // s.questions)
    return max(min(epochs, most), -(-steps * rows // s.questions))


def _lambda(s: Situation) -> float:
    return (_LAMBDA if s.has_retain_rows else _LAMBDA_OWN)[s.questions > FEW]


def answer_room(tokens: int) -> int:
    """Returns the most tokens of a sampled answer: a quarter more than an original answer has."""
    return min(max(32, 16 * math.ceil(1.25 * tokens / 16)), 512)


def row_room(tokens: int) -> int:
    """Returns the most tokens of a row: at least 256, and a multiple of 64."""
    return max(256, 64 * math.ceil(1.1 * tokens / 64))


def learning_rate(weights: int) -> float:
    """Returns the learning rate for training adapters, with two digits.

    Between the two models of `_RATES`, the logarithm of the rate is linear in that of the number of
    weights. Outside, the rate is that of the nearer model.
    """
    (small, high), (large, low) = _RATES
    share = (math.log(weights) - math.log(small)) / (math.log(large) - math.log(small))
    share = min(max(share, 0.0), 1.0)
    return float(f"{high ** (1 - share) * low**share:.1e}")


def answers_at_once(s: Situation) -> int:
    """Returns how many answers are decoded at the same time, a power of two from 16 to 256."""
    if s.on_cpu:
        return 64  # With more, a step of decoding takes longer in proportion.
    one = s.token_bytes * answer_room(s.answer_tokens)
    most = max(16.0, _SHARE_FOR_ANSWERS * s.free_bytes / one)
    return min(256, 2 ** int(math.log2(most)))


def _threshold(s: Situation) -> float:
    return 0.12 if s.has_long_answers else 0.0


def _memory(s: Situation) -> str:
    return f"{s.free_bytes / 1e9:.0f} GB of free memory"


def nested(choices: Sequence[Choice]) -> dict:
    """Returns the settings as nested mappings, as in a file."""
    tree: dict = {}
    for choice in choices:
        *sections, name = choice.name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = choice.value
    return tree
