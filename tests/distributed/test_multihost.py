"""Two processes of four devices: they end as one process of eight, and none is left waiting."""

import json
import os
import random
import shutil
import signal
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from host_runs import Ended, Job

from pmc_jax.artifacts import run_folder
from pmc_jax.distributed.supervisor import RESUME

SETTINGS = {
    "mesh": {"data": 2, "fsdp": 2, "tensor": 2},
    "finetune": tiny.FINETUNE | {"epochs": 5},
    "pmc": {
        **{"num_samples": 3, "epochs": 4, "max_new_tokens": 8, "rule": "bradley_terry"},
        **{"share_answers": True, "max_train_score": 0.3},  # samples of one host for all questions
    },
    "output": {"dir": "out", "checkpoint_every": 1},
    "log": {"text": True},
}
STEPS = 6
LEARNING_RATE = 3e-3
FAULTY = Path(__file__).parents[1] / "devices" / "faulty_host.py"
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache) -> Path:
    """The output of one process with eight devices."""
    folder = tmp_path_factory.mktemp("alone")
    tiny.write_inputs(folder, **SETTINGS)
    before = os.getcwd()
    os.chdir(folder)
    try:
        (process,) = Job("unlearn", "run.yaml", cache=cache, processes=1).ended()
    finally:
        os.chdir(before)
    assert process.status == 0, process.err[-3000:]
    return folder / "out"


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path, **SETTINGS)


def unlearn(cache: Path, *overrides: str, processes: int = 2, **options) -> Job:
    arguments = ["unlearn", "run.yaml", *overrides]
    return Job(*arguments, cache=cache, processes=processes, **options)


def succeed(job: Job) -> list[Ended]:
    processes = job.ended()
    for process in processes:
        assert process.status == 0, process.err[-3000:]
        assert process.said == [], process.said
    for process in processes[1:]:
        assert process.out == process.err == ""
    return processes


def assert_as_alone(alone: Path) -> None:
    """Samples and counts are the same; losses and weights but for rounding, which Adam amplifies
    with every step."""
    one, other = tiny.results("out"), tiny.results(alone)
    for key in ("before", "after", "tokens"):
        assert one[key] == other[key], key
    losses = ("collapse_loss", "retain_loss")
    for actual, expected in zip(one["rounds"], other["rounds"], strict=True):
        for name in losses:
            assert actual.pop(name) == pytest.approx(expected.pop(name), rel=1e-5), expected["step"]
        assert actual == expected
    assert tiny.log("out", "answer") == tiny.log(alone, "answer")
    for kind, key in (("finetune", "finetune_step"), ("scalars", "step")):
        steps = [row[key] for row in tiny.log("out", kind)]
        assert steps == [row[key] for row in tiny.log(alone, kind)]
    for folder, rate, steps in (("target", 1e-2, 5), ("model", LEARNING_RATE, 5 + STEPS)):
        actual, expected = tiny.weights(f"out/{folder}"), tiny.weights(alone / folder)
        assert actual.keys() == expected.keys()
        for name, array in expected.items():
            away = np.abs(actual[name].astype(np.float32) - array.astype(np.float32)).max()
            assert away <= 0.05 * rate * steps**0.5, (folder, name)
    assert {path.name for path in Path("out").iterdir()} == {p.name for p in alone.iterdir()}


def test_two_processes_are_asked_to_stop_go_on_and_end_as_one(alone, inputs, cache):
    stopped_at = stop_in_unlearning(cache)
    first, _ = succeed(unlearn(cache))
    assert f"at step {stopped_at} of {STEPS}" in first.out
    assert "\nVerdict: Forgotten questions: " in first.out and "unlearn: 100%" in first.err
    assert_as_alone(alone)


def stop_in_unlearning(cache: Path) -> int:
    """Sends SIGTERM to the second of two processes; the step at which they stopped."""
    job = unlearn(cache)
    job.wait_for(r"unlearn: .* [1-3]/6")
    job.send(1, signal.SIGTERM)
    first, second = job.ended()
    assert (first.status, second.status) == (75, 75), first.err[-2000:] + second.err[-2000:]
    assert first.said == [
        "pmc: the run received SIGTERM and stopped. Run the same command again to resume it from "
        "its checkpoint."
    ]
    assert second.err == second.out == ""
    steps = sorted(int(p.name) for p in Path("out/checkpoints").iterdir() if p.name.isdigit())
    assert 0 < steps[-1] <= STEPS and not Path("out/results.json").exists()
    return steps[-1]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_end_and_name_the_process_that_is_lost(lost, inputs, cache):
    # Where process 0 is lost, the end of its connections says so.
    job = unlearn(cache, "finetune.epochs=10000", PMC_HOST_SECONDS=("30", "3")[lost])
    job.wait_for(r"fine-tune: .* [1-9]\d*/")
    job.lose(lost)
    processes = job.ended(30)
    assert processes[lost].status == -signal.SIGKILL
    left = processes[1 - lost]
    why = ("closed its connection", "has sent no heartbeat for 3 s")[lost]
    assert left.status == 1
    assert left.said == [f"pmc: error: process {lost} ({HOST}) {why}. {RESUME}"]


def test_bad_input_is_said_once(inputs, cache):
    first, second = unlearn(cache, "train.batch_size=x").ended(60)
    assert (first.status, second.status) == (2, 2)
    assert first.err.startswith("pmc: error: run.yaml") and len(first.err.splitlines()) == 1
    assert second.err == first.out == second.out == ""


# Longer


@pytest.mark.slow
def test_two_processes_end_as_one(alone, inputs, cache):
    first, _ = succeed(unlearn(cache))
    assert first.out.splitlines()[0] == "target model: out/target"
    assert_as_alone(alone)


@pytest.mark.slow
def test_two_processes_go_on_as_one(alone, inputs, cache):
    stopped_at = stop_in_unlearning(cache)
    (one,) = succeed(unlearn(cache, processes=1))
    assert f"at step {stopped_at} of {STEPS}" in one.out
    assert_as_alone(alone)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_fault_is_shown_once_and_ends_all(index, inputs, cache):
    processes = unlearn(cache, script=FAULTY, PROCESS=str(index), FAULT="own").ended(90)
    assert [p.status for p in processes] == [1, 1]
    assert processes[index].err.count("Traceback") == 1
    assert "RuntimeError" in processes[index].said  # its text might quote the data
    assert processes[1 - index].said == [
        f"pmc: error: process {index} ({HOST}) failed (RuntimeError). Read the log of that process."
    ]


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_bad_input_that_one_process_finds_is_said_by_it(index, inputs, cache):
    processes = unlearn(cache, script=FAULTY, PROCESS=str(index), FAULT="input").ended(90)
    assert [p.status for p in processes] == [2, 2]
    assert processes[index].said == ["pmc: error: a fault of its own"]
    assert processes[1 - index].said == []


@pytest.mark.slow
@pytest.mark.parametrize("late", [0, 1])
def test_a_process_that_is_alive_and_late_is_named(late, inputs, cache):
    variables = {"PROCESS": str(late), "FAULT": "late", "PMC_BARRIER_SECONDS": "4"}
    processes = unlearn(cache, script=FAULTY, **variables).ended(120)
    assert [p.status for p in processes] == [2, 2]
    (line,) = processes[1 - late].said
    assert f": this process has waited 4 s for other processes (index {late}). " in line
    assert line.endswith(" or raise PMC_BARRIER_SECONDS.")
    assert processes[late].said == []


@pytest.mark.slow
def test_a_folder_in_use_ends_all_with_one_line(inputs, cache):
    with run_folder.locked("out", make=True):
        first, second = unlearn(cache).ended(90)
    assert (first.status, second.status) == (2, 2)
    assert len(first.said) == 1 and "another process is writing" in first.said[0]
    assert second.said == []


@pytest.mark.slow
def test_a_process_that_is_killed_alone_is_named_at_once(inputs, cache):
    job = unlearn(cache, "finetune.epochs=10000", PMC_HOST_SECONDS="60")
    job.wait_for(r"fine-tune: .* [1-9]\d*/")
    job.send(1, signal.SIGKILL)
    first, _ = job.ended(15)
    assert first.status == 1
    assert first.said == [f"pmc: error: process 1 ({HOST}) was killed. {RESUME}"]


@pytest.mark.slow
def test_a_process_that_never_starts_is_missed(inputs, cache):
    job = Job(
        *("unlearn", "run.yaml", "--coordinator", "localhost:9", "--num-processes", "2"),
        *("--process-id", "1"),
        cache=cache,
        processes=1,
        PMC_JOIN_SECONDS="3",
    )
    (process,) = job.ended(60)
    assert process.status == 1
    assert process.said == [
        "pmc: error: some processes have not joined the job. Start all processes, or raise "
        "PMC_JOIN_SECONDS."
    ]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fine-tune", "unlearn"])
def test_one_process_goes_on_as_two(stage, alone, inputs, cache):
    job = unlearn(cache, processes=1)
    job.wait_for(rf"{stage}: .* [1-4]/")
    job.send(0, signal.SIGTERM)
    (one,) = job.ended()
    assert one.status == 75, one.err[-2000:]
    first, _ = succeed(unlearn(cache))
    assert stage == "fine-tune" or "resumes" in first.out
    assert_as_alone(alone)


@pytest.mark.slow
def test_the_other_commands_run_in_two_processes(alone, inputs, cache):
    for command in ("evaluate", "sample"):
        one, two = (Job(command, "run.yaml", cache=cache, processes=n).ended() for n in (1, 2))
        assert [p.status for p in one + two] == [0, 0, 0], two[1].err
        assert two[0].out == one[0].out != "" and two[1].out == two[1].err == ""
    shutil.copytree(alone, "out")
    shutil.rmtree("out/model")
    first, _ = succeed(Job("export", "run.yaml", cache=cache))
    assert first.out.splitlines()[-1].startswith("pmc wrote ")
    assert tiny.same_weights("out/model", alone / "model")


@pytest.mark.slow
def test_random_interruptions_end_as_the_unbroken_run(alone, tmp_path, monkeypatch, cache):
    rng, interrupted = random.Random(0), 0
    for trial in range(10):
        folder = tmp_path / str(trial)
        folder.mkdir()
        monkeypatch.chdir(folder)
        tiny.write_inputs(folder, **SETTINGS)
        for how in rng.sample(["stop 0", "stop 1", "lose 0", "lose 1", "lose both"], 2):
            job = unlearn(cache, PMC_HOST_SECONDS="8", PMC_JOIN_SECONDS="20")
            threading.Event().wait(rng.uniform(3, 18))
            verb, who = how.split()
            for index in (0, 1) if who == "both" else (int(who),):
                job.send(index, signal.SIGTERM) if verb == "stop" else job.lose(index)
            processes = job.ended(120)
            statuses = [process.status for process in processes]
            interrupted += statuses != [0, 0]
            good = {0, 75, -signal.SIGTERM} if verb == "stop" else {0, 1, -signal.SIGKILL}
            if any("join" in line for process in processes for line in process.said):
                good |= {1, 2}  # the other process ended before it joined the job
            assert set(statuses) <= good, (how, [p.said for p in processes])
            assert not any("Traceback" in p.err for p in processes), how
            record = Path("out/run.json")
            # A process that was lost may have been on its way out.
            if record.is_file() and json.loads(record.read_text())["status"] == "finished":
                break
            assert statuses != [0, 0]
        else:
            succeed(unlearn(cache))
        assert_as_alone(alone)
    assert interrupted


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["abstain", "unseen"])
def test_two_processes_draw_the_answers_that_one_process_draws(kind, cache, tmp_path, monkeypatch):
    """The openings and the invented names of a question may be decoded by different processes."""
    abstention, subject = {"openings_file": "openings.txt"}, {"names_file": "names.txt"}
    pmc = {"answer": kind, "abstention": abstention, "subject": subject | {"invented": 3}}
    results = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        monkeypatch.chdir(folder)
        tiny.write_inputs(folder, **SETTINGS | {"pmc": SETTINGS["pmc"] | pmc})
        names = [row["question"].split()[0] for row in tiny.FORGET]
        (folder / "names.txt").write_text("\n".join(names))
        (folder / "openings.txt").write_text("\n".join(tiny.WORDS[:3]))
        script = Path(__file__).parents[1] / "devices" / "lenient_host.py"
        for process in unlearn(cache, processes=processes, script=script).ended():
            assert process.status == 0, process.err[-3000:]
        results.append(tiny.results("out"))
        stored = [row["stored"] for row in tiny.log("out", "question")]
        results[-1]["stored"] = stored
        assert all(stored)
    one, two = results
    assert one["stored"] == two["stored"] and one["tokens"] == two["tokens"]
