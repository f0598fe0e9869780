"""Checkpoints: written whole or not at all, found again, and gone on from exactly."""
