"""A worker process: what it runs tasks and actors with."""
