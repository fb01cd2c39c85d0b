"""Run joblib (so also scikit-learn) on the cluster: ``register_ray(); with parallel_config(backend="ray"): ...``."""

from __future__ import annotations

__all__ = ["register_ray", "register_skate"]


def register_ray() -> None:
    """Make the backend known to joblib as ``"ray"`` and as ``"skate"``.

    Raises:
        ImportError: joblib is not installed; the message names the extra that brings it.
    """
    # Imported here because joblib is an optional extra.
    try:
        from joblib import register_parallel_backend  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("the joblib backend needs joblib: pip install 'skate-core[joblib]'") from error
    from core.util.joblib.backend import SkateBackend  # noqa: PLC0415

    register_parallel_backend("ray", SkateBackend)
    register_parallel_backend("skate", SkateBackend)


def register_skate() -> None:
    """Make the backend known to joblib as ``"skate"`` and as ``"ray"`` (see :func:`register_ray`)."""
    register_ray()
