"""`python -m mmattn …`, which is what torchrun can start: `torchrun -m mmattn caption …`."""

from mmattn.cli.main import main

if __name__ == "__main__":
    main()
