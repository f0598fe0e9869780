"""Which files a model folder holds, and in which format.

    model.safetensors   the weights and buffers; tied ones once
    config.json         plain values: architecture, preprocessing, special tokens, and how captions
                        are written, or which classes there are
    tokenizer.json      as the `tokenizers` library writes it; none of a model that reads no text
    README.md           the model card; anybody may edit it, so the manifest does not hold it
    manifest.json       size and SHA-256 of the others

Names that begin with a dot (`.git`, `.gitattributes`) are other programs' and never looked at.
"""

from importlib.metadata import PackageNotFoundError, version

FORMAT = 2  # 1 knew captioners only, and neither classifiers nor joint models
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
CARD, MANIFEST = "README.md", "manifest.json"
VOUCHED = (CONFIG, TOKENIZER, WEIGHTS)
NAMES = (*VOUCHED, CARD, MANIFEST)


def library_version() -> str:
    """Return this library's version, "unknown" for a checkout that was not installed."""
    try:
        return version("mmattn")
    except PackageNotFoundError:
        return "unknown"
