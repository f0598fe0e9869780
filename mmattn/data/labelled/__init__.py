"""Labelled images, texts and pairs of them: what an example is, and readers of data sets."""
