"""The parts of ``forecast_fleet.py`` that know nothing of tasks or actors: data, models, scores, files, pictures."""
