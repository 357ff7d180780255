"""What every projection does between the log and its tables: batches, the fence, the way back, the halt, the pages.

A projection adds a `Projection` (which records come to what, and how that is written) and one route; `app` puts them
together, `running` is its process.
"""
