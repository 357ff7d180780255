"""JSON of any value: shortened where it has to be, or exact."""
