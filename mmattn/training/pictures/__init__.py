"""What a run shows while it learns: attention, decisions, heads, mistakes and curves."""
