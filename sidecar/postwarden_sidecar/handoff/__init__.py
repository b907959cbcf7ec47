"""How a client reaches the MTA: PROXY headers, descriptor passing, and the proof that it works. No I/O."""
