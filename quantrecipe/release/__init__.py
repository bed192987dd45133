"""Releases: the file that describes one, what was done of it, its checksums, its card; and publishing it on the hub."""
