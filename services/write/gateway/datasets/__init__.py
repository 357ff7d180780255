"""Datasets at the gateway: described, filled and archived here, by their schemas; all reads are forwarded."""
