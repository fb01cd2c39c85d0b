"""Model serving on Skate (being assembled; the public names are added by the api room)."""
