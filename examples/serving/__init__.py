"""What the serving examples share."""
