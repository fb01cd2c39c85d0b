"""gRPC calls on their way between a proxy, which relays bytes, and a replica, which knows what they mean."""
