"""The status page in the browser, and ``/metrics``: what people and Prometheus see of a running Serve."""
