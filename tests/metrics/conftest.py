"""Two processes that gather over gloo, as two ranks of a run do."""

import json
import multiprocessing
import warnings

import pytest
import torch


def answer(work, rank, folder, argument):
    """Let one of the two do its work, and leave what it found as a file in `folder`."""
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=2, init_method=f"file://{folder}/rendezvous"
    )
    found = work(rank, argument)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture
def in_two_processes(tmp_path):
    """Return what work(rank, argument), as JSON has it, finds in each of two processes."""

    def run(work, arguments):
        # Forked, since importing torch anew takes longer than all other tests of this folder.
        context = multiprocessing.get_context("fork")
        processes = [
            context.Process(target=answer, args=(work, rank, tmp_path, arguments[rank]))
            for rank in range(2)
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "This process .* is multi-threaded", DeprecationWarning
            )
            for process in processes:
                process.start()
        for process in processes:
            process.join(timeout=60)
            process.kill()
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    return run
