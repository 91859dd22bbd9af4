"""The `base` family: a transformer and a video autoencoder of the shapes of Wan2.1-T2V-1.3B (arXiv 2503.20314)."""
