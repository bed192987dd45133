"""quantrecipe report: the command, what a page is about, its sections, and the page."""
