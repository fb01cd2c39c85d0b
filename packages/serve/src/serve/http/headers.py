"""Header fields between proxies and replicas. No client can set them or gets to see them."""

from __future__ import annotations

#: in a replica's answer: it is full, ask another
FULL = b"x-serve-full"
#: in a proxied request: the part of the path that is not the application's
ROOT_PATH = b"x-serve-root-path"
#: in a proxied request: whom it came from, as ``host port scheme``
CLIENT = b"x-serve-client"
#: in a proxied request: the revision of the application that answers, where two share the requests
REVISION = b"x-serve-revision"

#: in a proxied request: what the application's gateway has decided, as JSON (`serve.proxy.judges`)
JUDGED = b"x-serve-judged"

OURS = frozenset({FULL, ROOT_PATH, CLIENT, REVISION, JUDGED})
