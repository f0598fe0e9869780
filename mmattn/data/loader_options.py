"""What a configuration says of the tokenizer and of how batches are read."""

from dataclasses import dataclass

from mmattn.data.bad_samples import check_fraction, check_policy
from mmattn.errors import ConfigError

LEASTS = {
    "batch_size": 1,
    "eval_batch_size": 1,
    "num_workers": 0,
    "timeout": 0,
    "prefetch_factor": 1,
    "tokens_per_batch": 1,
}


@dataclass(frozen=True)
class TokenizerOptions:
    """Where the tokenizer comes from.

    Attributes:
        path: a `tokenizer.json`; trained on the training captions if None.
        vocab_size: upper bound of the trained vocabulary.
        min_frequency: pairs seen less often are not merged.
    """

    path: str | None
    vocab_size: int
    min_frequency: int = 2


@dataclass(frozen=True)
class LoaderOptions:
    """How batches are read.

    Attributes:
        batch_size: training images in one rank's batch, at least 1.
        eval_batch_size: the same for validation and test.
        num_workers: reading processes; 0 reads in the training process.
        pin_memory: page-locked batches, for faster copies to a GPU.
        captions_per_image: captions drawn for each training image; all of them if None.
        tokens_per_batch: the text tokens of one rank's training batch at most, padding included:
            batches are then formed of texts of about one length (see `TokenBatches`), and
            `batch_size` is the most images that one has. None forms them without a look at texts.
        on_bad_sample: what a training image that cannot be read does. "raise" stops the run;
            "replace" lets another one stand in, which depends on its index alone, and with
            `tokens_per_batch` has no longer texts and no more of them (if there is none, the image
            is left out); "skip" makes its batch smaller (if it would be empty, one stands in).
            Validation and test always stop: figures of a part of a set are not those of the set.
        max_bad_fraction: the share of training images that may be replaced or skipped before the
            run stops after all. They are counted, logged and listed in `bad_images.csv` of the run
            directory, by which the ranks that share it count together. A resumed run counts anew.
        prefetch_factor: batches that each worker reads ahead; None is torch's default, 2.
        persistent_workers: keep the workers from one epoch to the next.
        timeout: seconds without a batch from the workers after which they are taken for dead; 0
            waits for ever.

    Raises:
        ConfigError: for an option out of its range.
    """

    batch_size: int
    eval_batch_size: int
    num_workers: int = 0
    pin_memory: bool = False
    captions_per_image: int | None = None
    tokens_per_batch: int | None = None
    on_bad_sample: str = "replace"
    max_bad_fraction: float = 0.01
    prefetch_factor: int | None = None
    persistent_workers: bool = True
    timeout: int = 1800

    def __post_init__(self):
        check_policy(self.on_bad_sample)
        check_fraction(self.max_bad_fraction)
        for key, least in LEASTS.items():
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"data.loader.{key}={value} must be at least {least}")
