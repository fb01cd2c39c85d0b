"""State machines of Serve: no sockets, processes, clocks or global randomness in here."""
