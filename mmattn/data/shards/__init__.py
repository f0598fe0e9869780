"""Captioned images in tar files, read at random without unpacking them."""
