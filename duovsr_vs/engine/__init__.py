"""The engine: options to plan, frames in, frames out. Knows no file, clip or node."""
