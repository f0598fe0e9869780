"""From pictures to captions: model, tokenizer and preprocessing as one thing."""
