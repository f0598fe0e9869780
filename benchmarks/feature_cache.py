"""What a feature cache saves: an epoch of Flickr8k's training images, encoded and read back.

    MMATTN_DATA=/path/to/data uv run python benchmarks/feature_cache.py

Times, over the same images: preparing and encoding each one with the frozen backbone of
`experiment=flickr8k_frozen`, reading its features from the cache instead, and the decoder's
training steps, which an epoch needs either way.
"""

import argparse
import os
import tempfile
import time

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.nn import functional as F

from mmattn.backbones import TimmPatches
from mmattn.cli import schema
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.allocator import keep_freed_memory
from mmattn.training.feature_cache import FeatureCache


def build(images: int):
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", ["experiment=flickr8k_frozen", "feature_cache=null"])
    data = instantiate(config.data, _convert_="all")
    data.read()
    train = data.splits.train
    object.__setattr__(train, "names", train.names[:images])  # the first images are enough
    config.model.text.vocab_size = data.tokenizer.vocab_size
    model = instantiate(config.model, _convert_="all")
    return CaptioningTask(model, data.tokenizer, torch.optim.AdamW, None, max_length=48), data


def epoch(data) -> list:
    return list(data.train_dataloader())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if "MMATTN_DATA" not in os.environ:
        raise SystemExit("set MMATTN_DATA to the folder that holds flickr8k/ and weights/")
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as a run does
    task, data = build(arguments.images)

    patches = task.model.vision.patches
    assert isinstance(patches, TimmPatches)
    start = time.perf_counter()
    with torch.no_grad():
        for batch in data.train_dataloader():
            patches.features(batch.images)
    encoding = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        device = torch.device("cpu")
        cache = FeatureCache(folder, patches, data.eval_transform, batch_size=64, device=device)
        data.use_features(cache)
        epoch(data)  # writes the cache
        start = time.perf_counter()
        batches = epoch(data)
        reading = time.perf_counter() - start

    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    start = time.perf_counter()
    for batch in batches:
        logits, targets = task.token_losses(task.encode(batch), batch)
        F.cross_entropy(logits, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    decoding = time.perf_counter() - start

    images = len(batches) * data.loader.batch_size
    print(f"{images} images, {arguments.threads} threads")
    print(f"encode every time   {encoding:7.1f} s")
    print(f"read from the cache {reading:7.1f} s   {encoding / reading:.1f} x faster")
    print(f"train the decoder   {decoding:7.1f} s   the same either way")
    whole = (encoding + decoding) / (reading + decoding)
    print(f"a later epoch is {whole:.1f} x faster in all")


if __name__ == "__main__":
    main()
