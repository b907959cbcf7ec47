"""Version 1 of the wire contract; generated from screening.proto."""
