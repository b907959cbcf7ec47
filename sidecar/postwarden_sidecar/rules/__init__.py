"""What a worker decides by: settings and interval tables. Pure."""
