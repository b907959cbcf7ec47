"""The block lists' names, apart from the server that serves them: cases name them, and know no systems."""

ZONES = ("one.bl.test", "two.bl.test", "three.bl.test")
