"""The lean process that answers clients."""
