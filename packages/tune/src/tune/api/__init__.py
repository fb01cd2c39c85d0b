"""The public calls: they check their arguments, make a plan of them, have the controller carry it out, show results."""
