"""What all tasks are tested with: a trainer that says and writes nothing."""

import lightning as L
import pytest


@pytest.fixture
def make_trainer(tmp_path):
    """Make a trainer of one epoch on the CPU, with these callbacks and options."""

    def make(*callbacks, **options):
        quiet = {
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "max_epochs": 1,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**(quiet | options), callbacks=list(callbacks))

    return make
