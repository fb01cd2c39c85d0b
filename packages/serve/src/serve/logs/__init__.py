"""Logs of replicas and proxies: who answered what, and what the code of deployments says while it answers whom."""
