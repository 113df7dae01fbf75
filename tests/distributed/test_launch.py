"""The spec of a process, the safe point where all processes stop, and the last message."""

import argparse
import io
import threading
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.distributed import launch, multihost, preemption, supervisor
from pmc_jax.errors import Preempted, UserError


def spec(flags: str = "", **environment: str) -> launch.ProcessSpec | None:
    parser = argparse.ArgumentParser()
    launch.add_flags(parser)
    return launch.process_spec(parser.parse_args(flags.split()), environment)


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "a[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


def test_process_spec():
    assert spec() is None
    flags = "--coordinator a:1 --num-processes 2 --process-id 1"
    assert spec(flags) == launch.ProcessSpec("a:1", 2, 1)
    assert spec("--coordinator a:1 --num-processes 1 --process-id 0") is None
    assert spec("--distributed") == launch.ProcessSpec()
    variables = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert spec(**variables) == launch.ProcessSpec("a:1", 4, 3)
    assert spec(JAX_COORDINATOR_ADDRESS="a:1") == launch.ProcessSpec("a:1")
    for variables, is_several in (
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, True),
        ({"MEGASCALE_COORDINATOR_ADDRESS": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        (SLURM, True),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
    ):
        assert spec(**variables) == (launch.ProcessSpec() if is_several else None), variables


@pytest.mark.parametrize(
    ("flags", "environment", "named"),
    [
        ("--coordinator a:1", {}, "together"),
        ("--coordinator a:1 --num-processes 2 --process-id 2", {}, "--process-id=2"),
        ("--coordinator a:1 --num-processes 99999 --process-id 2", {}, "at most 65536"),
        ("--coordinator a --num-processes 2 --process-id 1", {}, "HOST:PORT"),
        ("--distributed --process-id 1", {}, "--distributed"),
        ("", {"JAX_NUM_PROCESSES": "2"}, "JAX_PROCESS_ID"),
        ("", {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS"),
        (
            "",
            {
                "JAX_COORDINATOR_ADDRESS": "a:1",
                "JAX_NUM_PROCESSES": "x",
                "JAX_PROCESS_ID": "0",
            },
            "JAX_NUM_PROCESSES=x",
        ),
    ],
)
def test_flags_that_do_not_go_together(flags, environment, named):
    with pytest.raises(UserError, match=named) as caught:
        spec(flags, **environment)
    assert len(str(caught.value).splitlines()) == 1


def test_bad_flags_are_one_line_with_status_2(inputs: Path):
    done = tiny.pmc("unlearn", "--coordinator", "a:1")
    assert done.status == 2 and done.err.startswith("pmc: error: --coordinator")
    assert len(done.err.splitlines()) == 1


GONE = "F client.h:80] the JAX distributed service detected fatal errors. absl::Status: UNAVAILABLE"


@pytest.mark.parametrize(
    ("native", "status", "line"),
    [
        (GONE, -6, "process 0 (a) closed its connection."),
        (
            f"{GONE}: are unhealthy (stopped sending heartbeats):\n1\n2\nThe tasks have crashed.",
            -6,
            "process 1 (b), process 2 (c) stopped sending heartbeats.",
        ),
        ("DEADLINE_EXCEEDED: \nRPC: RegisterTask", -6, "some processes have not joined the job."),
        ("ALREADY_EXISTS: Aborted connect attempt", -6, "another process has the same"),
        ("[Gloo] Rank 0", -9, "process 3 (d) was killed by signal 9"),
        ("unknown opcode\n", -11, "process 3 (d) was killed by signal 11"),
    ],
)
def test_a_death_in_native_code_is_reported_in_one_line(native, status, line, capsys):
    messages = {"index": 3, "hosts": {"0": "a", "1": "b", "2": "c", "3": "d"}}
    assert supervisor._report_end(status, messages, io.BytesIO(native.encode())) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"pmc: error: {line}")
    assert ("unknown opcode" in said) == (status == -11) and "Gloo" not in said
    assert "client.h" not in said


def test_the_message_is_printed_and_the_status_kept(capsys):
    messages = {"index": 0, "hosts": {"0": "a"}, "text": "pmc: error: x"}
    assert supervisor._report_end(2, messages, io.BytesIO(GONE.encode())) == 2
    assert capsys.readouterr().err == "pmc: error: x\n"


def test_a_single_process_returns_what_it_passes():
    assert multihost.count() == 1 and multihost.is_first() and multihost.owns(3)
    value = object()
    assert multihost.gather(value) == [value] and multihost.broadcast(lambda: value) is value
    assert multihost.map_sharded(lambda i: range(i), 3) == [[], [0], [0, 1]]
    multihost.barrier("one process")


def test_processes_stop_at_the_first_safe_point_that_none_has_passed(monkeypatch):
    """Five processes as threads that run at their own pace; this thread is their watchdogs."""
    monkeypatch.setattr(multihost, "count", lambda: 5)
    own = threading.local()
    safe_points = [preemption._SafePoints() for _ in range(5)]

    class Current:
        def __getattr__(self, name):
            return getattr(safe_points[own.index], name)

        def __setattr__(self, name, value):
            setattr(safe_points[own.index], name, value)

    monkeypatch.setattr(preemption, "_safe_points", Current())
    stopped_after = {}

    def work(index: int) -> None:
        own.index, passed = index, 0
        with pytest.raises(Preempted):
            while True:
                preemption.check()
                passed += 1
                threading.Event().wait(0.001 * (index + 1))
        stopped_after[index] = passed

    threads = [threading.Thread(target=work, args=(index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.2)
    passed = []
    for index in range(5):
        own.index = index
        passed.append(preemption.pause())
        threading.Event().wait(0.02)
    for index in reversed(range(5)):
        own.index = index
        preemption.stop_after(max(passed))
    for thread in threads:
        thread.join(10)
    assert set(stopped_after.values()) == {max(passed)} and len(stopped_after) == 5
