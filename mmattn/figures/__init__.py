"""Pictures of a classifier: what it confuses, how sure it is, and what unsure answers cost."""
