"""Items as datasets take them: checked by the rules that the gateway has, and named by their content."""

from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

_NO_DATASET = "0" * 32
_NO_ID = "none yet"


def fault_of(item: DatasetItemRecorded) -> str:
    """What is wrong with the item, as far as that needs no dataset; when nothing is, it gets an id if it has none."""
    # The rules come with what a server needs: only those who import items wait for them.
    from shared.read_model.dataset_rules import check_item
    from shared.read_model.experiment_ids import item_id_of
    from shared.runtime.refusal import InvalidError

    item_id, item.item_id, item.dataset_id = item.item_id, item.item_id or _NO_ID, _NO_DATASET
    try:
        check_item(item, "item")
        item.item_id = item_id or item_id_of(item.input_json, item.expected_output_json)
    except InvalidError as invalid:
        return f"{invalid.field.removeprefix('item').removeprefix('.') or 'the item'} {invalid.why}"
    except (ValueError, RecursionError) as error:  # a number that is beyond all bounds
        return f"has no id: {error}"
    item.dataset_id = ""
    return ""
