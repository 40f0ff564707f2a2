"""Run one container or script: the first workload."""
