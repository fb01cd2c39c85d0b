"""Models that are loaded and unloaded by order, at run time: ``serve.load_model`` and the protocol's repository.

What is wanted is kept in the control store, one key for each deployment. Each replica watches it and brings it about by
its ``@serve.multiplexed`` loader, so that replicas to come hold the same models, whoever has died meanwhile.
"""
