"""Captioners of ours as ONNX files, for programs without torch."""
