"""Calling deployments from Python: handles, and the router that handles and proxies share."""
