"""Where the ranks of a run meet: at a port that is theirs from the moment it is chosen."""

import logging
import os
import socket
from datetime import timedelta

# torch documents them there, and pyright finds them elsewhere.
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from mmattn.errors import ConfigError

log = logging.getLogger(__name__)

LOCAL = "127.0.0.1"
ANY = "0.0.0.0"
PATIENCE = timedelta(hours=1)  # for all ranks to start and to read the data


def listen(nodes: int) -> socket.socket:
    """Return the socket at which rank 0 listens, and tell the environment where that is.

    To look for a free port and to bind it later leaves time for another run to take it. So it is
    bound here, and handed on open. On one machine nobody outside can reach it, and a MASTER_PORT
    that is taken is replaced.

    Raises:
        ConfigError: several machines were not told where to meet, or the port is taken there.
    """
    wanted = os.environ.get("MASTER_PORT", "0")
    if not wanted.isdecimal():
        raise ConfigError(f"MASTER_PORT={wanted!r} in the environment is no number: unset it")
    if nodes > 1:
        return listen_to_machines(nodes, int(wanted))
    try:
        found = bound(LOCAL, int(wanted))
    except (OSError, OverflowError) as error:
        found = bound(LOCAL, 0)
        port = found.getsockname()[1]
        log.warning("MASTER_PORT=%s cannot be used (%s): using port %d", wanted, error, port)
    os.environ |= {"MASTER_ADDR": LOCAL, "MASTER_PORT": str(found.getsockname()[1])}
    return found


def listen_to_machines(nodes: int, port: int) -> socket.socket:
    """Return a socket for ranks on other machines, which look for it at MASTER_ADDR and `port`."""
    told = "MASTER_ADDR" in os.environ and port
    if not told:
        raise ConfigError(
            f"trainer.num_nodes={nodes}: set MASTER_ADDR, MASTER_PORT and NODE_RANK on every "
            "machine, or start with torchrun or srun, which do"
        )
    try:
        return bound(ANY, port)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"MASTER_PORT={port} cannot be used ({error}): choose another one on every machine"
        ) from None


def bound(address: str, port: int) -> socket.socket:
    """Return a socket that listens; raises OSError where the port is taken, 0 takes a free one."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if port:  # connections of a run that has just ended do not block it
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen()
    except BaseException:
        made.close()
        raise
    return made


def meet(listening: socket.socket | None, rank: int, size: int) -> Store:
    """Return the store through which the ranks exchange addresses, once all of them are there.

    Until then only patience helps, for ranks read the data before they come; a rank that ends
    instead is noticed otherwise. So the time-out of a training step does not count yet.

    Args:
        listening: rank 0's socket, which is handed over; None for other ranks.
        rank: of this process.
        size: the number of ranks.

    Raises:
        RuntimeError: a rank does not come.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if listening is None:
        store = TCPStore(address, port, is_master=False, timeout=PATIENCE)
    else:
        store = TCPStore(
            address,
            port,
            is_master=True,
            timeout=PATIENCE,
            wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )
    met = PrefixStore("mmattn", store)
    met.set(f"rank {rank}", "here")
    met.wait([f"rank {other}" for other in range(size)], PATIENCE)
    return met
