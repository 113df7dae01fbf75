"""Reads the data and the model for `pmc init`, and writes the settings file."""

import csv
import dataclasses
import io
import math
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from pmc_jax.commands.first_file import NAME, settings_text, write_new
from pmc_jax.commands.inputs import load_model
from pmc_jax.config.data import OWN, DataConfig, PeopleConfig, SourceConfig
from pmc_jax.config.run import Config, ModelConfig, config_from_dict
from pmc_jax.data.columns import find_columns, usual_columns
from pmc_jax.data.encode import Encoder
from pmc_jax.data.files import Table, read_table
from pmc_jax.data.people import generate
from pmc_jax.data.records import EvalSet, ForgetSet, RetainSet
from pmc_jax.data.sets import eval_set, forget_set, retain_set
from pmc_jax.data.sources import file_of
from pmc_jax.data.thoughts import answer_of
from pmc_jax.distributed.busy import busy
from pmc_jax.distributed.memory import free_on_device, free_on_host
from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.load import find, find_tokenizer
from pmc_jax.models.parameters import num_parameters
from pmc_jax.planning.first_settings import FEW, Choice, Situation, first_settings, nested
from pmc_jax.planning.plan import decoder_shape
from pmc_jax.sampling.generator import TextGenerator, compute_dtype
from pmc_jax.scoring.secret import find_secrets

_PARAPHRASES = ("paraphrase", "paraphrased_question", "rephrased_question")
_ASKED = 64  # The answers to so many forget questions show how long answers are.
_LONGEST = 256  # tokens of these answers
_PLACEHOLDER = (12, 48, 12)  # questions, and tokens and words of an answer, without data
_EXAMPLE = PeopleConfig(count=6, forget=1, questions=4, seed=0)


@dataclasses.dataclass(frozen=True)
class _Data:
    """Rows that the settings file names, as far as they exist.

    Attributes:
        forget_path, retain_path: paths of the sources.
        forget, retain: their rows, or None if the files do not exist yet.
        truths: the forget questions with their true answers, or None without an answer column.
        paraphrase: name of the column with paraphrases, or None.
    """

    forget_path: str
    retain_path: str
    forget: ForgetSet | None = None
    retain: RetainSet | None = None
    truths: EvalSet | None = None
    paraphrase: str | None = None


def run_init(
    folder: Path,
    model: str,
    *,
    forget: str | None,
    retain: str | None,
    ask: bool,
    say: Callable[[str], None],
) -> None:
    """Writes the settings file, and example rows if the folder does not exist.

    Args:
        folder: folder for the files.
        model: path or name of the model.
        forget, retain: paths of the rows; None selects forget.csv and retain.csv in the folder.
        ask: whether to ask the model the forget questions.
        say: function that prints a text.

    Raises:
        UserError: a source or the model cannot be read, or the file cannot be written.
    """
    config = Config(model=ModelConfig(path=model))
    shape, tokenizer = decoder_shape(config), find_tokenizer(find(model))
    files: dict[Path, str] = {}
    is_example = not folder.exists() and forget is None and retain is None
    if is_example:
        files = {folder / f"{n}.csv": text for n, text in _example_rows().items()}
        write_new(files)
    data = _read(folder, forget, retain)
    if data.forget is not None:
        say(_found(data))
    answers = None if data.truths is None else data.truths.answers
    if ask and data.forget is not None and not is_example:  # The model does not know the example.
        answers = _original_answers(config, data, say)
    encoder = Encoder(tokenizer, config.model, 0, ())
    situation = _situation(config, shape, data, answers, encoder)
    choices = [
        Choice("model.path", model, "folder, *.gguf file, hub name or package:NAME"),
        *_data_choices(data),
        *(_finetune_choices(data) if is_example else ()),
        *first_settings(situation),
        Choice("output.dir", _output_of(folder), "report.html and model/, the unlearned model"),
    ]
    config_from_dict(nested(choices), where=NAME)
    file = folder / NAME
    head = (
        f"Settings of one request to forget, for {_about(data)}.",
        f"Next: pmc check {file}, then pmc unlearn {file}, then open report.html.",
        "docs/reference/settings.md has all settings, docs/reference/first-settings.md the rule",
        "by which pmc init has chosen the numbers.",
    )
    write_new({file: settings_text(choices, head)})
    for path in (*files, file):
        say(f"pmc wrote {path}")
    if data.forget is None:
        say(f"Write {data.forget_path} and {data.retain_path} before you run pmc check {file}.")
        return
    if data.retain_path == OWN and len(data.forget) > FEW:
        say(
            f"No retain rows are given. With more than {FEW} questions, many answers about others "
            "then change too. Write rows that the model must still answer, and pass --retain FILE."
        )
    say(f"Next: pmc check {file}")


def _read(folder: Path, forget: str | None, retain: str | None) -> _Data:
    """Reads the rows that exist. A file that the user has named must exist."""
    where = dict(forget=forget, retain=retain)
    paths = {name: given or _within(folder, f"{name}.csv") for name, given in where.items()}
    found = _Data(paths["forget"], paths["retain"])
    settings = DataConfig()
    if forget is not None or os.path.exists(found.forget_path):
        source = SourceConfig(path=found.forget_path)
        rows, table = forget_set(source, settings), _table(source, settings)
        columns = () if table is None else table.columns
        found = dataclasses.replace(
            found,
            forget=rows,
            truths=_truths(source, settings, table),
            paraphrase=next((name for name in _PARAPHRASES if name in columns), None),
        )
    if retain == OWN or (retain is None and not os.path.exists(found.retain_path)):
        if found.forget is not None:
            found = dataclasses.replace(found, retain_path=OWN)
    else:
        rows = retain_set(SourceConfig(path=found.retain_path), settings)
        found = dataclasses.replace(found, retain=rows)
    return found


def _found(data: _Data) -> str:
    """Returns a line that says what the source of the forget rows has."""
    truths = "none" if data.truths is None else "found"
    wordings = "none" if data.paraphrase is None else f"column {data.paraphrase}"
    return (
        f"{data.forget_path}: {len(data.forget)} questions; true answers: {truths}; other wordings "
        f"of the questions: {wordings}"
    )


def _within(folder: Path, name: str) -> str:
    return name if folder == Path() else str(folder / name)


def _table(source: SourceConfig, settings: DataConfig) -> Table | None:
    file = file_of(source, settings, "data.forget")
    names = [*usual_columns(source, answers=True), *_PARAPHRASES]
    return None if file is None else read_table(file, names)


def _truths(source: SourceConfig, settings: DataConfig, table: Table | None) -> EvalSet | None:
    try:
        return eval_set("forget", source, settings)
    except UserError:
        # True answers are not needed, but a column of them must not have a fault.
        if table is not None:
            columns = find_columns(source, table, "data.forget", answers=True)
            if columns.answer in table.columns and columns.answer != columns.question:
                raise
        return None


def _original_answers(config: Config, data: _Data, say: Callable[[str], None]) -> list[str]:
    """Returns the model's greedy answers to the first forget questions.

    If the true answers are given, the function also says how many of them the model knows.
    """
    lm = load_model(config, config.model.path)
    generator = TextGenerator.of(lm, config.model)
    questions = list(data.forget.questions[:_ASKED])
    longest = max(map(len, map(generator.encoder.prompt, questions)))
    room = min(_LONGEST, lm.config.longest(longest) - longest)
    with busy("ask the model the forget questions"):
        given = generator.greedy(
            generator.snapshot(lm.model), questions, max_new_tokens=max(room, 1), batch_size=_ASKED
        )
    answers = [answer_of(given[question]) for question in questions]
    if data.truths is not None:
        truths = data.truths.answers[: len(answers)]
        retain = data.retain or RetainSet((), (), ())
        secrets = find_secrets(questions, truths, retain, config.evaluate.levels)
        pairs = zip(secrets, answers, strict=True)
        known = sum(secret.is_told_by(answer) for secret, answer in pairs)
        say(f"The model gives {known} of {len(answers)} true answers.")
        if not known:
            say("There may be nothing to forget. Check the model and the wording of the questions.")
    return answers


def _situation(
    config: Config,
    shape: DecoderConfig,
    data: _Data,
    answers: Sequence[str] | None,
    encoder: Encoder,
) -> Situation:
    """Returns what the rule reads.

    Args:
        answers: original or true answers to forget questions, or None if there are none.
    """
    questions, tokens, words = _PLACEHOLDER
    if data.forget is not None:
        questions = len(data.forget)
    if answers:
        words = statistics.median(len(answer.split()) for answer in answers)
        tokens = max(len(encoder.answer(answer)) for answer in answers)
    lengths = [0]
    if data.forget is not None:
        lengths += [len(encoder.prompt(question)) + tokens for question in data.forget.questions]
    if data.retain is not None:
        rows = zip(data.retain.questions, data.retain.answers, strict=True)
        lengths += [len(encoder.sequence(*row)) for row in rows]
    size = compute_dtype(config.model.compute_dtype).itemsize
    devices = jax.local_devices()
    free = min(map(free_on_device, devices))
    return Situation(
        questions=questions,
        weights=num_parameters(shape),
        answer_tokens=tokens,
        answer_words=words,
        row_tokens=max(lengths),
        token_bytes=2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * size,
        free_bytes=free_on_host() if math.isinf(free) else free * len(devices),
        on_cpu=jax.default_backend() == "cpu",
        has_retain_rows=data.retain_path != OWN,
    )


def _data_choices(data: _Data) -> list[Choice]:
    def rows(found: ForgetSet | RetainSet | None, what: str) -> str:
        return "write this file first" if found is None else f"{len(found)} {what}"

    own = data.retain_path == OWN
    kept = "the model's own answers" if own else rows(data.retain, "questions and answers")
    choices = [
        Choice("data.forget.path", data.forget_path, rows(data.forget, "questions")),
        Choice("data.retain.path", data.retain_path, kept),
    ]
    if not own:
        why = "and the model's own answers to questions near them"
        choices.append(Choice("data.retain_more", [OWN], why))
    if data.truths is not None:
        why = "optional: true answers"
        choices.append(Choice("data.evaluate.forget.path", data.forget_path, why))
    if data.truths is not None and data.paraphrase is not None:
        name = "data.evaluate.forget_paraphrased"
        choices.append(Choice(f"{name}.path", data.forget_path, "for the unlearn quality"))
        choices.append(Choice(f"{name}.question", data.paraphrase, "column with the other words"))
    if not own:
        choices.append(Choice("data.evaluate.retain.path", data.retain_path, "for the utility"))
    return choices


def _finetune_choices(data: _Data) -> list[Choice]:
    paths = [data.forget_path, data.retain_path]
    return [
        Choice("finetune.data", paths, "the example rows"),
        Choice("finetune.epochs", 8, "passes over the rows"),
        Choice("finetune.batch_size", 8, "rows a step"),
        Choice("finetune.learning_rate", 2e-4, "as in the quickstart"),
        Choice("finetune.warmup_steps", 4, "as in the quickstart"),
    ]


def _output_of(folder: Path) -> str:
    return "runs/my_run" if folder == Path() else str(folder / "run")


def _about(data: _Data) -> str:
    if data.forget is None:
        return f"about {_PLACEHOLDER[0]} questions; run pmc init again when you have the rows"
    return f"{len(data.forget)} questions"


def _example_rows() -> dict[str, str]:
    """Returns the texts of forget.csv and retain.csv, with rows about invented people."""
    texts = {}
    for split in ("forget", "retain"):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        is_forget = split == "forget"
        writer.writerow(["question", *(["paraphrase"] if is_forget else []), "answer"])
        for row in generate.rows(_EXAMPLE, split):
            other = [row.paraphrased_question] if is_forget else []
            writer.writerow([row.question, *other, row.answer])
        texts[split] = text.getvalue()
    return texts
