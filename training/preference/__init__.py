"""What the preference stage learns from: candidates, how they are ranked, and the pairs that come of it."""
