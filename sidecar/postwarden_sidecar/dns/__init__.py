"""DNS block lists without I/O: messages, what answers mean, whom to ask next."""
