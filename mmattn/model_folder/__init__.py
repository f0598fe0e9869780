"""A captioner in a folder: weights, plain values, tokenizer, a card and a manifest."""
