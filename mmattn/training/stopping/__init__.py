"""Asked to stop: signals, what all ranks agree on, and back into the queue."""
