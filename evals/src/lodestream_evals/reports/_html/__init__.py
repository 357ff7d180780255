"""The report as one HTML file that needs nothing else: no scripts, no fonts, no addresses but those of traces."""
