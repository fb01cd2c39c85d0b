"""The public functions: check arguments, then delegate to the current engine."""
