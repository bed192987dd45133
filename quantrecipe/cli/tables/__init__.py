"""Tables and paragraphs as values, and the ways in which they are shown."""

from quantrecipe.cli.tables.paragraph import Paragraph
from quantrecipe.cli.tables.short_names import shared_parts, shorten, within_folder
from quantrecipe.cli.tables.table import Cell, Kind, Table, numbers

__all__ = ["Cell", "Kind", "Paragraph", "Table", "numbers", "shared_parts", "shorten", "within_folder"]
