"""Sans-I/O state machines: events in, instructions out; no sockets, clocks, threads or randomness of their own."""
