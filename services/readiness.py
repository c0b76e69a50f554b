"""Whether a server responds over HTTP."""

import requests

TIMEOUT = 5.0


def response_of(url: str, user: str = "", password: str = "") -> requests.Response | None:
    """The response to a GET of the address; None where it does not end with status 200.

    Args:
        url: of this stack's own server, so that no proxy of the environment has a say.
        user, password: for basic authentication, where there is a password.
    """
    with requests.Session() as session:
        session.trust_env = False
        if password:
            session.auth = (user, password)
        try:
            response = session.get(url, timeout=TIMEOUT)
        except requests.RequestException:
            return None
        return response if response.status_code == requests.codes.ok else None


def responds(url: str, user: str = "", password: str = "") -> bool:
    """Whether there is such a response: see `response_of`."""
    return response_of(url, user, password) is not None
