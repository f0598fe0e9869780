"""open_clip's CoCa models, read without that library."""
