"""What operators use while Serve runs: the REST API, and the place where the status page and metrics hang."""
