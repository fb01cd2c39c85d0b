"""``@serve.multiplexed``: many models in few replicas, each loaded where it is asked for."""
