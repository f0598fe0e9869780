"""Files of captions to compare: references and predictions, and which belongs to which image."""
