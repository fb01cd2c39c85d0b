"""What a class that serves an ASGI application carries with it, from its decorator to its replica."""
