"""Decoding: from encoded images to captions. The loop owns the cache."""
