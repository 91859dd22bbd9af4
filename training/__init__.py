"""The trainer: the three stages of DUO-VSR (arXiv 2603.22271) and what they stand on. Runs from a checkout."""
