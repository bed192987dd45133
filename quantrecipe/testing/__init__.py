"""Checks that formats and analyses run on themselves, built-in or third-party."""
