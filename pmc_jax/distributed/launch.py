"""Detects a multi-process job from flags, variables or the cluster, and connects its processes.

Only `join` imports jax, so a single process starts without this import.
"""

import argparse
import dataclasses
import glob
import importlib.util
import os
from collections.abc import Mapping

from pmc_jax.errors import UserError

# These patterns match the device files of TPUs and of NVIDIA GPUs.
TPUS, NVIDIA_GPUS = ("/dev/accel*", "/dev/vfio/[0-9]*"), "/dev/nvidia[0-9]*"
_WORKER_ENDPOINTS = (
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
    "worker-network-endpoints"
)
_METADATA_SECONDS = 2.0
_JOIN_SECONDS = 300.0
_MAX_PROCESSES = 1 << 16  # Process 0 allocates memory for each of them.
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """Address and size of a multi-process job, with the index of this process.

    If a value is None, jax detects it.

    Attributes:
        coordinator: address of process 0, as "host:port".
        count: number of processes.
        index: index of this process, from 0.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the options that describe a multi-process job."""
    group = parser.add_argument_group("multi-process jobs, with one process per host")
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="host of process 0, and a free port on that host"
    )
    group.add_argument("--num-processes", type=int, metavar="N", help="number of processes")
    group.add_argument("--process-id", type=int, metavar="I", help="index of this process, from 0")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="let jax detect the processes of the job, if pmc does not detect the job by itself",
    )


def process_spec(options: argparse.Namespace, environment: Mapping[str, str]) -> ProcessSpec | None:
    """Reads the address, size and index of a job from flags and environment variables.

    Returns None if the job has a single process.

    Args:
        options: parsed flags of `add_flags`.
        environment: environment variables.

    Raises:
        UserError: flags or variables are invalid, incomplete or contradict each other.
    """
    flags = (options.coordinator, options.num_processes, options.process_id)
    if any(flag is not None for flag in flags):
        if options.distributed:
            raise UserError(
                "--distributed cannot be combined with --coordinator, --num-processes or "
                "--process-id. Remove --distributed, or the other flags."
            )
        if any(flag is None for flag in flags):
            raise UserError(
                "--coordinator, --num-processes and --process-id must be set together. Pass all "
                "three flags or none of them."
            )
        return _checked(*flags, names=("--coordinator", "--num-processes", "--process-id"))
    if options.distributed:
        return ProcessSpec()
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    address, count, index = (environment.get(name) for name in names)
    if address and count and index:
        try:
            numbers = int(count), int(index)
        except ValueError:
            raise UserError(
                f"{names[1]}={count}, {names[2]}={index}: both values must be integers. Set both "
                "variables to integers."
            ) from None
        return _checked(address, *numbers, names=names)
    if count or index:
        raise UserError(
            f"{names[0]}, {names[1]} and {names[2]} must be set together. Set all three variables "
            "or none of them."
        )
    several = address or _cluster_processes(environment) > 1
    return ProcessSpec(address or None) if several else None


def _checked(
    coordinator: str, count: int, index: int, *, names: tuple[str, str, str]
) -> ProcessSpec | None:
    """Checks the values of a process spec and builds it, or returns None for a single process.

    Args:
        names: names of the flags or environment variables, for messages.

    Raises:
        UserError: the index is out of range, there are too many processes, or the coordinator is
            not an address.
    """
    if count < 1 or not 0 <= index < count:
        raise UserError(
            f"{names[1]}={count}, {names[2]}={index}: the index is out of range. Set "
            f"{names[1]} to at least 1, and {names[2]} to at least 0 and below {names[1]}."
        )
    if count > _MAX_PROCESSES:
        raise UserError(
            f"{names[1]}={count}: the value must be at most {_MAX_PROCESSES}. Set {names[1]} to "
            "the number of processes of the job."
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"{names[0]}={coordinator}: the value is not an address. Set {names[0]} to HOST:PORT."
        )
    return ProcessSpec(coordinator, count, index) if count > 1 else None


def _cluster_processes(environment: Mapping[str, str]) -> int:
    """Returns the number of processes that a scheduler has started.

    The number comes from environment variables and, on a TPU VM, from Google's metadata server.
    """
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    counts = [len((workers or "").split(",")), _number(environment.get("OMPI_COMM_WORLD_SIZE"))]
    if environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        counts.append(_number(environment.get("MEGASCALE_NUM_SLICES", "2")))
    # A shell inside an allocation has some of these variables, and a task of srun has all of them.
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
    """Returns the number of hosts in the slice of this TPU VM, from Google's metadata server."""
    import urllib.request

    request = urllib.request.Request(_WORKER_ENDPOINTS, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as reply:
            return len(reply.read().decode().split(","))
    except (OSError, ValueError):  # The machine is not in Google's cloud.
        return 1


def join(spec: ProcessSpec, timeout: float) -> None:
    """Connects this process to the other processes of the job.

    Call this function before any other use of jax's devices.

    Args:
        spec: address and size of the job.
        timeout: number of seconds without a heartbeat after which a process counts as failed.

    Raises:
        UserError: the other processes cannot be reached, or `PMC_JOIN_SECONDS` is invalid.
    """
    import jax

    from pmc_jax.distributed.multihost import seconds_of

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # jax's preemption service would handle SIGTERM in place of the module `preemption`.
    jax.config.update("jax_enable_preemption_service", False)
    limit = int(seconds_of("PMC_JOIN_SECONDS", _JOIN_SECONDS))
    try:
        jax.distributed.initialize(
            spec.coordinator,
            spec.count,
            spec.index,
            local_device_ids=_local_devices(os.environ),
            cluster_detection_method=None if spec.count is None else "deactivate",
            initialization_timeout=limit,
            # This timeout is longer than the watchdog's timeout, because the watchdog's message is
            # clearer.
            heartbeat_timeout_seconds=int(2 * timeout + 10),
            shutdown_timeout_seconds=int(timeout + 1),
        )
    except Exception as error:  # jax raises errors of many types.
        reason = " ".join(str(error).split())[:200]
        fix = "Pass --coordinator HOST:PORT, --num-processes and --process-id"
        if spec.count is not None:
            fix = f"Check that {spec.coordinator} is the host of process 0 and a free port"
        raise UserError(
            f"this process cannot join the other processes ({reason}). {fix}."
        ) from None


def _local_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Returns the indices of the visible GPUs of this host, or None if jax selects the devices.

    If `CUDA_VISIBLE_DEVICES` is set, only the GPUs that it names are visible. Under Slurm and Open
    MPI, jax selects one GPU per process, but pmc runs one process per host.
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
