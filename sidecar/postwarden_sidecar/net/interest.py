"""What epoll is to report of a client's socket, by what the engine is interested in."""

from __future__ import annotations

import select

from postwarden_sidecar.engine.actions import Interest

# One number for all clients that wait, not one each.
_INPUT_OR_END = select.EPOLLIN | select.EPOLLRDHUP
_NEWS = _INPUT_OR_END | select.EPOLLET


def wanted_events(interest: Interest, *, peeked: bool, eof_told: bool, at_end: bool) -> int:
    """peeked: the engine has seen what waits, and left it there. eof_told: it knows that the client has ended. at_end: recv has returned
    the end, so that reading on would spin."""
    if interest is Interest.NOTHING:
        return 0
    hangup = 0 if eof_told else select.EPOLLRDHUP
    if interest is Interest.READ:
        return 0 if at_end else select.EPOLLIN
    if interest is Interest.PEEK and not peeked:
        return _INPUT_OR_END if hangup else select.EPOLLIN
    if interest is Interest.PEEK and hangup:
        # Bytes wait in the socket and stay there: only news may wake us, or the loop would spin.
        return _NEWS
    return hangup
