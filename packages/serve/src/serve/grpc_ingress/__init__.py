"""The way in for gRPC: proxies that take calls of the user's own services and of the Open Inference Protocol."""
