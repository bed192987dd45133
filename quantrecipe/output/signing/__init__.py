"""Signing: files are what somebody signed, and checksums for those who have no key."""
