"""The HTTP ingress: accepts clients, picks a replica, relays bytes both ways."""
