"""What another library complains of, in one line."""


def one_line(error: BaseException) -> str:
    """Return an error's message in one line, its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
