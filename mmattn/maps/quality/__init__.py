"""Whether a map says where: against regions, against the model itself, and against controls."""
