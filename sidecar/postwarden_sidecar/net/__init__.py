"""Sockets: listeners, the epoll driver, the relay."""
