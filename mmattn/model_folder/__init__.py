"""A model in a folder: weights, plain values, tokenizer, a card and a manifest."""
