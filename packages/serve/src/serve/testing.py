"""Applications in the process of a test: no servers, no ports, no other processes; breakpoints work.

::

    from serve.testing import local


    def test_greeting():
        with local(Greeter.bind("Hi")) as app:
            assert app.handle.greet.remote("you").result() == "Hi you"
            assert app.client().get("/?name=you").text == "Hi you"

With pytest, the fixtures ``serve_app`` and ``serve_client`` do the same and end it after the test.
"""

from __future__ import annotations

from serve.api.local import start_locally as local
from serve.local.application import LocalApplication

__all__ = ["LocalApplication", "local"]
