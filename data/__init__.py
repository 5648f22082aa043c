"""From files to batches: data sets, transforms, samplers and the loader."""
