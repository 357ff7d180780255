"""Rows into tables, in the fence's transaction: copied when they are new, merged when they are not."""
