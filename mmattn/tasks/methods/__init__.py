"""How a captioner learns: by teacher forcing and what is done to it, and by reinforcement."""
