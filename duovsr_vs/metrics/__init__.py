"""Measures of upscaled video: pure functions on numpy clips; they know no model, engine or file.

Clips are uint8 RGB arrays (t, h, w, 3) unless a docstring says otherwise. `suite.score_clip` calls them all.
"""
