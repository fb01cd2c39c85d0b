"""``@serve.batch``: requests that come one by one, worked on together."""
