"""Engines: the protocol that the public API talks to, and what implements it."""
