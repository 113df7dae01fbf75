"""Devices and processes: the mesh, the hosts of a job, and how they end."""
