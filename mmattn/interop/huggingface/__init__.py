"""Captioners in Hugging Face's layout, read and written without that library."""
