"""Many processes: how they start, meet, share a model, and end together."""
