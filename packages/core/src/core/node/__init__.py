"""The per-machine daemon: it grants leases, starts and watches processes, keeps the actor table and the store."""
