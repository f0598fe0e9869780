"""What `mmattn score` finds out about a model's captions, and how it is told."""
