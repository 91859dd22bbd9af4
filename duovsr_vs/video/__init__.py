"""Video files in and out: reading, colours, writing, packet copying. Knows neither model nor engine nor torch."""
