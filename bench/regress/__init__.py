"""`make bench-regress`: whether a connection has become dearer than the committed baseline says."""
