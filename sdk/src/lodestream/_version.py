"""The version, said once for the wire, the package and people."""

__version__ = "0.1.0"
SDK_NAME = "lodestream-python"
"""How exports name their producer, in the metadata of the call."""
