"""A read model folded anew from the log beside the live one, compared with it, and put in its place while all runs on.

The rebuilt one is a schema of the same tables with positions of its own. A projection adds a `Rebuildable`: what folds
the log into those tables, and how they are compared.
"""
