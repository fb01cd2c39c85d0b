"""Replicas in the process that asks: threads instead of processes, so that tests are fast and breakpoints work."""
