"""Videos side by side: what `duovsr check` measures of an upscaled one, and the pages that `duovsr compare` makes."""
