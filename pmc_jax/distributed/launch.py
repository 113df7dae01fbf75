"""Starts multi-process jobs: the processes find each other by flags or cluster variables.

This module imports jax only in `join`, which a single process never calls.
"""

import argparse
import dataclasses
import glob
import importlib.util
import os
from collections.abc import Mapping

from pmc_jax.errors import UserError

TPUS, NVIDIA_GPUS = ("/dev/accel*", "/dev/vfio/[0-9]*"), "/dev/nvidia[0-9]*"  # device files
_WORKER_ENDPOINTS = (
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
    "worker-network-endpoints"
)
_METADATA_SECONDS = 2.0
_JOIN_SECONDS = 300.0
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """One process of a multi-process job; jax detects the values that are None.

    Attributes:
        coordinator: host:port of process 0.
        count: number of processes.
        index: index of this process, from 0.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("multi-process jobs, one process per host")
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="host of process 0 and a free port on it"
    )
    group.add_argument("--num-processes", type=int, metavar="N", help="number of processes")
    group.add_argument("--process-id", type=int, metavar="I", help="index of this process, from 0")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="run as a multi-process job that jax detects, if pmc does not detect it by itself",
    )


def process_spec(options: argparse.Namespace, environment: Mapping[str, str]) -> ProcessSpec | None:
    """Reads flags and environment variables; returns None for a single process.

    Raises:
        UserError: flags or variables contradict each other or are incomplete.
    """
    flags = (options.coordinator, options.num_processes, options.process_id)
    if any(flag is not None for flag in flags):
        if options.distributed:
            raise UserError(
                "--distributed detects the processes; remove --coordinator, --num-processes and "
                "--process-id"
            )
        if any(flag is None for flag in flags):
            raise UserError("--coordinator, --num-processes and --process-id must be set together")
        return _checked(*flags, names=("--coordinator", "--num-processes", "--process-id"))
    if options.distributed:
        return ProcessSpec()
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    address, count, index = (environment.get(name) for name in names)
    if address and count and index:
        try:
            numbers = int(count), int(index)
        except ValueError:
            raise UserError(f"{names[1]}={count}, {names[2]}={index}: expected numbers") from None
        return _checked(address, *numbers, names=names)
    if bool(count) != bool(index):
        raise UserError(f"{names[0]}, {names[1]} and {names[2]} must be set together")
    several = address or _cluster_processes(environment) > 1
    return ProcessSpec(address or None) if several else None


def _checked(
    coordinator: str, count: int, index: int, *, names: tuple[str, str, str]
) -> ProcessSpec | None:
    """Checks the values of the flags or variables `names`; returns None for one process."""
    if count < 1 or not 0 <= index < count:
        raise UserError(
            f"{names[1]}={count}, {names[2]}={index}: expected an index from 0 to the number of "
            "processes - 1"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"{names[0]}={coordinator}: expected HOST:PORT")
    return ProcessSpec(coordinator, count, index) if count > 1 else None


def _cluster_processes(environment: Mapping[str, str]) -> int:
    """Number of processes that a scheduler has started, as far as the environment shows it."""
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    counts = [len((workers or "").split(",")), _number(environment.get("OMPI_COMM_WORLD_SIZE"))]
    if environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        counts.append(_number(environment.get("MEGASCALE_NUM_SLICES", "2")))
    # A shell inside an allocation has some of these; a task that srun started has them all.
    if all(name in environment for name in _SLURM):
        tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment["SLURM_NTASKS"]
        counts.append(_number(tasks))
    if workers is None and _is_tpu_vm(environment):
        counts.append(_tpu_vm_workers())
    return max(counts)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 1


def _is_tpu_vm(environment: Mapping[str, str]) -> bool:
    platforms = environment.get("JAX_PLATFORMS", "")
    return (
        (not platforms or "tpu" in platforms)
        and "TPU_SKIP_MDS_QUERY" not in environment
        and any(map(glob.glob, TPUS))
        and importlib.util.find_spec("libtpu") is not None
    )


def _tpu_vm_workers() -> int:
    """Number of hosts in this TPU VM's slice, from the metadata server that jax queries too."""
    import urllib.request

    request = urllib.request.Request(_WORKER_ENDPOINTS, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as reply:
            return len(reply.read().decode().split(","))
    except (OSError, ValueError):  # not on Google's cloud
        return 1


def join(spec: ProcessSpec, timeout: float) -> None:
    """Joins the job; must be called before any other use of jax's devices.

    Args:
        timeout: seconds after which a silent process counts as dead.

    Raises:
        UserError: the other processes cannot be reached.
    """
    import jax

    from pmc_jax.distributed.multihost import seconds_of

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Jax's service would handle SIGTERM; `preemption` agrees on a safe point by itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            spec.coordinator,
            spec.count,
            spec.index,
            local_device_ids=_local_devices(os.environ),
            cluster_detection_method=None if spec.count is None else "deactivate",
            initialization_timeout=int(seconds_of("PMC_JOIN_SECONDS", _JOIN_SECONDS)),
            # Later than the watchdog, whose message is clearer than that of jax.
            heartbeat_timeout_seconds=int(2 * timeout + 10),
            shutdown_timeout_seconds=int(timeout + 1),
        )
    except Exception as error:  # jax raises many types, for a missing variable or a busy port
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot join the other processes ({reason}); give --coordinator HOST:PORT, "
            "--num-processes and --process-id"
        ) from None


def _local_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Indices of all GPUs of the host; None = jax chooses.

    Under Slurm and Open MPI jax would use one GPU per process; pmc runs one process per host.
    """
    alone = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1" or (
        environment.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0] == "1"
    )
    gpus = len(glob.glob(NVIDIA_GPUS))
    if "CUDA_VISIBLE_DEVICES" in environment:
        gpus = len([name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name])
    if not alone or not gpus or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    return list(range(gpus))
