"""The device mesh, jobs of several processes, failure detection and preemption."""
