"""Measurements of a trained model, told in words, tables and figures."""
