"""`pmc check`: all faults of a run, counts of its rows, and what it needs; nothing is written."""

import contextlib
import dataclasses
import json
import shutil
import stat
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.artifacts import run_folder
from pmc_jax.commands.inputs import model_digest, read_inputs
from pmc_jax.config.run import Config, load_config
from pmc_jax.planning.run_time import AnswerTime, Counts, Timings, run_time, total


@pytest.fixture(scope="module")
def inputs_folder(tmp_path_factory) -> Path:
    return tiny.write_inputs(tmp_path_factory.mktemp("check"))


@pytest.fixture
def inputs(inputs_folder, tmp_path, monkeypatch) -> Path:
    """A folder with the files of a run, which a test may change."""
    for file in inputs_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "run.yaml").unlink()
    tiny.write_settings(tmp_path / "run.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*arguments: str, status: int = 0) -> tiny.Done:
    """Runs `pmc check --fast`, and checks that it writes nothing and shows no text of the data."""
    before = tiny.digest(Path())
    done = tiny.pmc("check", "--fast", *arguments)
    assert done.status == status, done.err
    written = {name for name in tiny.digest(Path()) if name not in before}
    assert written == {name for name in arguments if name == "prompts.txt" and not status}
    assert not [word for word in tiny.WORDS if word in done.out + done.err]
    return done


def faults(*arguments: str) -> list[str]:
    lines = check(*arguments, status=2).said
    return [line.removeprefix("pmc: error: ") for line in lines if "error: " in line]


def test_a_run_that_would_start(inputs):
    out = check().out
    for part in (
        "data.forget                            6  prompt                   4       4        4",
        "No question is repeated or in both sets.",
        "forgotten: sampled: evaluate.levels.measured does not contain it",
        "unlearning: 24 steps of 4 forget and 4 retain rows, in 24 rounds, no warm-up",
        "output   out: new",
        "memory in GB",
        "disk ",
    ):
        assert part in out, out


def test_all_faults_are_found(inputs):
    Path("file").write_text("")
    found = faults(
        "data.forget.question=prompt",
        "data.retain.path=absent.jsonl",
        "data.evaluate.forget.answer=reply",
        "pmc.score.name=forbidden",
        "pmc.score.forbidden_file=absent.txt",
        "output.dir=file",
    )
    parts = ("'prompt'", "absent.jsonl", "'reply'", "absent.txt", "file: the path is a file")
    assert len(found) == len(parts)
    for part in parts:
        assert sum(part in line for line in found) == 1, found


def test_faults_of_rows_that_do_not_fit(inputs):
    found = faults(
        "data.max_length=8",
        "method.layer=9",
        "train.batch_size=5000",
        "data.on_overlap=error",
        "data.retain.path=again.jsonl",
        "data.forget.path=again.jsonl",
    )
    starts = (
        "method.layer",
        "data.forget: the retain data contain 6",
        "train.batch_size: a step has 5,000 rows",
        "6 of 6 rows are",
    )
    pairs = list(zip(found, starts, strict=True))
    assert all(line.startswith(start) for line, start in pairs), pairs


def test_each_fault_of_the_settings_has_a_line(inputs):
    assert [f.partition(":")[0] for f in faults("seed=-1", "train.decay=x")] == [
        "train.decay",
        "seed",
    ]


def split_special_tokens(folder: Path) -> None:
    """Makes the tokenizer of a copied model encode a spelt "</s>" as three tokens."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {part: len(vocabulary) + i for i, part in enumerate(("</", "s", ">"))}
    path.write_text(json.dumps(tokenizer))


def test_peculiar_rows_are_counted(inputs):
    shutil.copytree("model", "split")
    split_special_tokens(Path("split"))
    twice = [tiny.RETAIN[0], *tiny.RETAIN, tiny.FORGET[0]]
    long = {"question": tiny.WORDS[0], "answer": " ".join(tiny.WORDS[:30])}
    special = [
        {"question": "</s>", "answer": tiny.WORDS[1]},
        {"question": tiny.WORDS[2], "answer": f"{tiny.WORDS[3]} </s>"},
        {"question": "<eos>", "answer": "<eos> x"},  # not a token of this model
    ]
    tiny.write_rows(Path("odd.jsonl"), [*twice, long, *special])
    again = dict(tiny.FORGET[1], question=f" {tiny.FORGET[1]['question']}")
    asked = [*tiny.FORGET, again, {"question": f"{tiny.WORDS[4]} </s>"}]
    tiny.write_rows(Path("asked.jsonl"), asked)
    out = check(
        "data.retain.path=odd.jsonl",
        "data.forget.path=asked.jsonl",
        *("model.path=split", "data.max_length=20", "data.long_rows=drop"),
    ).out
    for part in (
        "1 forget questions that are also retain questions (asked:0)",
        "1 repeated forget questions (asked:6)",
        "1 repeated retain questions (odd:1)",
        "1 rows of data.forget that spell out a special token (asked:7)",
        "2 rows of data.retain that spell out a special token (odd:11, odd:12)",
        "1 rows of data.retain longer than 20 tokens (odd:10)",
    ):
        assert f"  {part}\n" in f"{out}\n", out
    assert "rows of data.evaluate" not in out


def test_missing_sets_are_named(inputs):
    settings = json.loads(Path("run.yaml").read_text())
    del settings["data"]["evaluate"], settings["evaluate"]["levels"]
    Path("run.yaml").write_text(json.dumps(settings))
    out = check("evaluate.measures=[membership]", "--overwrite", status=2)
    assert "data.evaluate: no evaluation set is given" in out.err
    out = check().out
    assert "unlearn quality: set data.evaluate.forget and data.evaluate.forget_paraphrased" in out
    assert "utility: set data.evaluate.retain or " in out
    assert "elicited by paraphrases: data.evaluate.forget_paraphrased is not given" in out


def test_prompts_are_written_to_a_new_private_file(inputs):
    check("--prompts", "prompts.txt")
    text = Path("prompts.txt").read_text()
    assert stat.S_IMODE(Path("prompts.txt").stat().st_mode) == 0o600
    assert tiny.FORGET[0]["question"] in text and tiny.RETAIN[0]["answer"] in text
    assert tiny.FORGET[0]["answer"] in text  # of data.evaluate.forget
    assert "exists already" in faults("--prompts", "prompts.txt")[0]
    assert Path("prompts.txt").read_text() == text
    assert "does not exist" in faults("--prompts", "absent/prompts.txt")[0]


def test_states_of_the_output_folder(inputs):
    config = load_config("run.yaml")
    digests = {"model": model_digest("model")} | read_inputs(config).digests
    how = dict(settings=dataclasses.asdict(config), digests=digests)
    run_folder.claim("out", **how).close()
    assert "output   out: an unfinished run, which would resume" in check().out
    assert "other settings or data" in faults("seed=1")[0]
    assert "would replace the earlier run" in check("seed=1", "--overwrite").out
    Path("out/results.json").write_text("{}")
    assert "holds a finished run" in faults()[0]


@pytest.mark.quick
def test_predicted_time():
    answer = AnswerTime(seconds=0.1, tokens=10.0)
    assert answer.of(20) == pytest.approx(0.2)
    config = Config(pmc=tiny.pmc_config(max_attempts=6, num_samples=20))
    counts = Counts(60, 72, 18, forget=8, round_questions=8, evaluated=48)
    how = dict(knowledge_seconds=1.0, answer_tokens=10.0, compile_seconds=10.0)
    timings = Timings((1.0, 2.0, 3.0), (2.0, 2.0), answer, answer, 0.5, **how)
    parts = {part.name: part for part in run_time(config, counts, timings, load=3.0)}
    assert parts["fine-tuning"].seconds == 120
    assert parts["fine-tuning"].low < 60 and parts["fine-tuning"].high > 180
    assert parts["training"].low < parts["training"].seconds == 144 < parts["training"].high
    # Eight questions need two attempts of 20 samples; at most, 18 rounds have 6 attempts each.
    assert parts["sampling"].seconds == pytest.approx(1 + 8 * 2 * 20 * 0.1)
    assert parts["sampling"].high == pytest.approx(1 + 8 * 18 * 6 * 20 * 0.1 * 1.25)
    whole = total(list(parts.values()))
    assert whole.low < whole.seconds < whole.high
    unknown = dataclasses.replace(timings, replaced=None, answer_tokens=20.0)
    sampling = run_time(config, counts, unknown, load=3.0)[1]
    assert sampling.seconds == pytest.approx(1 + 8 * 2 * 20 * 0.2)
    other = dataclasses.replace(timings, sampled=None)
    assert run_time(config, counts, other, load=3.0)[1].high == 0


@pytest.mark.slow
@pytest.mark.parametrize("finetune", [None, tiny.FINETUNE])
def test_timed_steps(finetune, tmp_path):
    tiny.write_inputs(tmp_path, **({} if finetune is None else {"finetune": finetune}))
    with contextlib.chdir(tmp_path):
        before = tiny.digest(Path())
        done = tiny.succeed("check")
        assert tiny.digest(Path()) == before
        assert "time on 1 x cpu" in done.out and "training steps took" in done.out
        assert ("fine-tuning steps took" in done.out) == (finetune is not None)
        for method in ("npo", "idk"):
            answers = "data.forget_answers.path=forget.jsonl"
            assert "\nsampling  " not in tiny.succeed("check", f"method.name={method}", answers).out


def test_a_reference_model_needs_an_evaluation_set(inputs):
    arguments = ("data.evaluate=null", "finetune.data=[retain.jsonl]")
    (fault,) = faults(*arguments, "evaluate.make_reference=true")
    assert "data.evaluate: no evaluation set is given" in fault
