"""The report drawn with rich. Imported late, as rich is an extra."""
