"""Hugging Face's names of activations."""

# Theirs -> ours with the same formula; of several names the first is written back.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "swish": "silu",
}
# Ours -> theirs.
WRITTEN = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
