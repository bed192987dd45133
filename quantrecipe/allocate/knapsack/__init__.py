"""Choosing under a budget: costs, bytes and limits in; one option for each item out. Knows no recipe and no model."""
