"""The models: codec, flow network, one-step generator, and their files. Knows frames as tensors, nothing of hosts."""
