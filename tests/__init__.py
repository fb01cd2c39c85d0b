"""Tests of what crosses packages; each package has its own unit tests beside it."""
