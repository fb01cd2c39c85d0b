"""The public calls of Serve: each checks what it is given, then hands on."""
