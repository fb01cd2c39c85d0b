"""Loggers: result.json, progress.csv, TensorBoard. Ray's names.

All three are on by default (`DEFAULT_LOGGERS`); together they take some 15 microseconds of the driver per result. The
environment variable ``TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1`` leaves them out, and a logger that the user passes
replaces the default one of its class.
"""

from __future__ import annotations

from tune.logger.base import LoggerCallback
from tune.logger.csv_logger import CSVLoggerCallback
from tune.logger.json_logger import JsonLoggerCallback
from tune.logger.tensorboard_logger import TBXLoggerCallback

#: what a sweep logs to unless told otherwise
DEFAULT_LOGGERS: tuple[type[LoggerCallback], ...] = (CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback)

__all__ = ["DEFAULT_LOGGERS", "CSVLoggerCallback", "JsonLoggerCallback", "LoggerCallback", "TBXLoggerCallback"]
