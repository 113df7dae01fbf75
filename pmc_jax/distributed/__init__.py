"""Device meshes, multi-process jobs, failure detection and preemption."""
