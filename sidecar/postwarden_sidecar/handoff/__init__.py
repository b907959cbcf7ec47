"""How a client reaches the MTA: PROXY headers, descriptor passing, and the proof that the MTA understands. No I/O."""
