"""Registry, options, YAML and errors: the language of recipes. Knows nothing of images or torch."""
