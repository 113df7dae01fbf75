"""A signal stops a run at a safe place with status 75, and the same command resumes.

A command without state to save stops at once.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.distributed import preemption
from pmc_jax.errors import Preempted, Stopped
from pmc_jax.sampling.engine import Engine
from pmc_jax.training.trainer import Trainer

ROUNDS = {
    "pmc": {"num_samples": 3, "epochs": 4, "max_new_tokens": 8, "steps_per_round": 3},
    "train": {"batch_size": 4, "learning_rate": 3e-3},
    "output": {"dir": "out", "checkpoint_every": 2},
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tiny.Run:
    return tiny.run(tmp_path_factory.mktemp("unbroken"), finetune=tiny.FINETUNE, **ROUNDS)


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path, finetune=tiny.FINETUNE, **ROUNDS)


def terminated_after(monkeypatch, target, name: str, calls: int) -> None:
    """The process is sent SIGTERM when a function is called for the `calls`th time."""
    original, left = getattr(target, name), [calls]

    def signalling(*args, **kwargs):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, signalling)


# Steps are counted over fine-tuning (40) and unlearning (6 in rounds of 3), questions asked over
# both evaluations and the rounds between them.
@pytest.mark.parametrize(
    ("target", "name", "calls"),
    [
        (Trainer, "step", 7),
        (Trainer, "step", 42),
        (Engine, "generate", 1),
        (Engine, "generate", 3),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in [
                (Trainer, "step", 40),
                (Trainer, "step", 43),
                (Engine, "generate", 2),
                (Engine, "generate", 4),
            ]
        ),
    ],
)
def test_a_run_that_was_asked_to_stop_ends_as_one_that_was_not(
    target, name, calls, inputs, unbroken, monkeypatch
):
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        terminated_after(patch, target, name, calls)
        done = tiny.pmc("unlearn")
    assert done.status == 75
    # Sampling before and after unlearning has no state to save.
    who = "command" if target is Engine and calls in (1, 4) else "run"
    assert done.err.splitlines()[-1].startswith(
        f"pmc: the {who} received SIGTERM and stopped. Run the same command"
    )
    assert not Path("out/results.json").exists() and not Path("out/model").exists()
    assert signal.getsignal(signal.SIGTERM) is handler
    tiny.succeed("unlearn")
    assert tiny.same_weights("out/target", unbroken.out / "target")
    assert tiny.same_weights("out/model", unbroken.out / "model")
    one, other = tiny.results("out"), tiny.results(unbroken.out)
    for key in ("before", "after", "tokens", "rounds"):
        assert one[key] == other[key], key
    for kind in ("finetune", "scalars", "answer"):
        assert tiny.log("out", kind) == unbroken.log(kind)
    assert not Path("out/target.checkpoints").exists()


def test_an_evaluation_on_the_way_that_was_given_up_is_made_again(tmp_path, monkeypatch):
    whole = tiny.run(tmp_path / "whole", "evaluate.every=3", **ROUNDS)
    monkeypatch.chdir(tiny.write_inputs(tmp_path / "stopped", **ROUNDS))
    with monkeypatch.context() as patch:
        # AnswerCache before, and for the first round; then comes its evaluation.
        terminated_after(patch, Engine, "generate", 3)
        assert tiny.pmc("unlearn", "evaluate.every=3").status == 75
    tiny.succeed("unlearn", "evaluate.every=3")
    rounds = tiny.results("out")["rounds"]
    assert "unlearn_quality" in rounds[0] and rounds == tiny.results(whole.out)["rounds"]
    assert tiny.same_weights("out/model", whole.out / "model")


def test_no_step_of_fine_tuning_is_taken_twice(inputs, monkeypatch):
    taken = []
    original = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda *a: (taken.append(1), original(*a))[1])
    with monkeypatch.context() as patch:
        terminated_after(patch, Trainer, "step", 7)
        assert tiny.pmc("finetune").status == 75
    assert len(taken) == 7
    tiny.succeed("finetune")
    assert len(taken) == 40
    assert "(reused" in tiny.succeed("finetune").out and len(taken) == 40


def test_other_settings_do_not_go_on_with_a_training(inputs, monkeypatch):
    with monkeypatch.context() as patch:
        terminated_after(patch, Trainer, "step", 7)
        assert tiny.pmc("finetune").status == 75
    taken = []
    original = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda *a: (taken.append(1), original(*a))[1])
    tiny.succeed("finetune", "finetune.learning_rate=0.005")
    assert len(taken) == 40 and not Path("out/target.checkpoints").exists()


def test_outside_nothing_stops():
    preemption.check()
    with preemption.handle_signals(), pytest.raises(Preempted), preemption.saving():
        preemption.check()
        os.kill(os.getpid(), signal.SIGTERM)
        preemption.check()
    preemption.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_code_without_state_ends_at_once(number):
    if number not in preemption.handled_signals():
        pytest.skip(f"The tests run with {number.name} ignored, as nohup does.")
    with preemption.handle_signals(), pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.status == (130 if number == signal.SIGINT else 75)
    assert number.name in stopped.value.line


def test_an_error_that_replaces_the_exception_is_a_stop_too():
    with pytest.raises(Stopped), preemption.handle_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Stopped:
            raise ImportError from None


def test_a_signal_after_the_last_safe_point_ends_the_code_after_it():
    with preemption.handle_signals(), pytest.raises(Stopped), preemption.saving():
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_ignored_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with preemption.handle_signals():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN


STUBBORN = """
import ctypes, sys
from pmc_jax.distributed import preemption
preemption._LIMIT_SECONDS = float(sys.argv[1])
preemption._SAME_SIGNAL_SECONDS = 0.1
lock = ctypes.CDLL(None).pthread_mutex_lock  # native code that runs on after a signal
mutex = ctypes.create_string_buffer(64)
with preemption.handle_signals(), preemption.saving() if len(sys.argv) > 2 else open("/dev/null"):
    lock(mutex)
    try:
        print("ready", flush=True)
    finally:
        lock(mutex)
"""


@pytest.mark.parametrize(
    ("arguments", "signals", "status"),
    [
        (["0.5"], [signal.SIGTERM], 75),
        (["0.5"], [signal.SIGINT], 130),
        (["60"], [signal.SIGTERM, signal.SIGTERM], 143),
        (["60", "saving"], [signal.SIGTERM, signal.SIGINT], 130),
    ],
)
def test_native_code_that_does_not_return_ends_after_a_while_or_a_second_signal(
    arguments, signals, status
):
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    _, err = process.communicate(timeout=10)
    assert process.returncode == status and "Traceback" not in err
    assert err.splitlines()[-1].startswith("pmc: ")


def test_a_process_of_its_own_ends_with_75(inputs):
    process = subprocess.Popen(
        [sys.executable, "-m", "pmc_jax.cli", "unlearn", "run.yaml", "pmc.schedule.epochs=4000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"},
        text=True,
    )
    seen = ""
    while "unlearn:" not in seen:
        letter = process.stderr.read(1)
        assert letter, seen[-2000:]
        seen += letter
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 75, rest[-2000:]
    assert rest.splitlines()[-1].startswith("pmc: the run received SIGTERM")
    assert "Traceback" not in rest and list(Path("out/checkpoints").iterdir())


def test_a_signal_while_libraries_load_passes_no_exception_through_them(monkeypatch, capfd):
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end, preemption.handle_signals(), preemption.importing():
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 75
    assert "pmc: the command received SIGTERM and stopped." in capfd.readouterr().err


def test_a_signal_while_python_starts_again_waits_for_the_handlers():
    preemption.hold_signals()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped), preemption.handle_signals():
        pytest.fail("The signal is still waiting.")
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
