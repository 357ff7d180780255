"""The ids of datasets, items and runs that follow from what they are of. Pure; the same everywhere and for ever."""

import hashlib

from shared.rules.json_texts import canonical_json, read_json


def dataset_id_of(name: str) -> str:
    """The id of the dataset of this name."""
    return _digest(name)


def item_id_of(input_json: str, expected_output_json: str) -> str:
    """The id of an item that was given none, of texts that have been checked."""
    return _digest(canonical_json([read_json(input_json), read_json(expected_output_json)]))


def run_id_of(dataset_id: str, name: str) -> str:
    """The id of a run that was given none."""
    return _digest(canonical_json([dataset_id, name]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
