"""Stands for the tests of this folder."""

from tests.torture.fixtures import own_stand, stand

__all__ = ["own_stand", "stand"]
