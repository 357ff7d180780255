"""Runs at the gateway: asked for, moved and ended here; what came of items is taken; all reads are forwarded."""
