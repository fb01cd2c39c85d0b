"""What every driver and worker embeds: the ownership table, submitters, and the thread that reads."""
