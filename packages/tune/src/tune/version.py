"""The version of Skate."""

__version__ = "0.1.0"
