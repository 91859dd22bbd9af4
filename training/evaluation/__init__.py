"""What `python -m training evaluate` stands on: sets of clips, methods, measures, tables."""
