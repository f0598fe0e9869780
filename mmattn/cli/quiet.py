"""What the libraries below need not say."""

import logging
import warnings


def quiet_libraries() -> None:
    """Silence advice that does not apply here, and say once what Lightning would say twice."""
    for message in (
        ".*does not have many workers.*",  # small images: reading costs less than a worker
        ".*module\\(s\\) in eval mode at the start.*",  # a frozen backbone is meant to be
        ".*number of training batches.*smaller than the logging interval.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*Dynamo detected a call to a `functools.lru_cache`.*",  # of recording, which may be slow
        "Experiment logs directory .* exists and is not empty.*",  # it is this run's own
        "Checkpoint directory .* exists and is not empty.*",
        "The dirpath has changed from .*",  # said in `fit`, in words of ours
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning").handlers.clear()  # Hydra's print it too, and keep it in the log
