"""Other libraries' models: their weights in our own modules, and their attention maps."""
