"""URLs in messages and in what a run shows: without that which opens them."""

import re
from collections.abc import Callable

HIDDEN = "…"
# A password may hold what a URL should write as %2F; a port (host:80/a@b) is none. The query is
# where a server expects signatures and tokens.
_URL = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://
    ((?P<user>[^\s/?\#]*|[^\s/?\#@:]+:(?!\d*/)[^\s@]*(?:@[^\s/?\#@]*)*)@)?
    (?P<place>[^\s?'"<>]*)
    (\?(?P<query>[^\s'"<>)]+))?""",
    re.VERBOSE,
)
# Azure's "user" is the container.
CONTAINERS = frozenset({"abfs", "abfss", "wasb", "wasbs"})


def without_credentials(text: str, hides: Callable[[str], bool] = bool) -> str:
    """Return a text with "…" for the user, the password and the query of each URL in it.

    Those stay for which `hides` is false.
    """

    def shown(url: re.Match[str]) -> str:
        user, query = url["user"] or "", url["query"] or ""
        opens = not (url["scheme"].lower() in CONTAINERS and ":" not in user)
        user = HIDDEN if user and opens and hides(user) else user
        query = HIDDEN if query and hides(query) else query
        parts = url["scheme"], "://", user, "@" * bool(user), url["place"], "?" * bool(query), query
        return "".join(parts)

    return _URL.sub(shown, text)
