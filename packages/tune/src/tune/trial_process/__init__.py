"""What runs inside a trial's process: the user's code, and what it reports through.

``session`` has the public functions (``report``, ``get_checkpoint``, ``get_context``); ``runner`` runs one trial from a
`Launch` to its last event; ``outbox`` is where its events wait for the driver to fetch them. Which process, and how the
driver talks to it, is the backend's business.
"""
