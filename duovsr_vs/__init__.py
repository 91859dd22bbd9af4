"""duovsr: a one-step diffusion video upscaler."""

__version__ = "0.1.0"
