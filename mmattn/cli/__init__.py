"""The command line: Hydra for training, a plain parser for the rest."""
