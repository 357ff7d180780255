"""Writes docs/asyncapi-traces.json, what this service reads: `python -m services.projections.traces.asyncapi`."""

import json
import sys
from pathlib import Path

from services.projections.traces.app import create_app
from shared.runtime.settings import KafkaSettings, PostgresSettings

DOCUMENT = Path(__file__).parents[3] / "docs" / "asyncapi-traces.json"


def document() -> str:
    """The AsyncAPI document, for the default addresses."""
    app = create_app(KafkaSettings.model_construct(), PostgresSettings.model_construct())
    return json.dumps(app.schema.to_specification().to_jsonable(), indent=2) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"wrote {DOCUMENT.name}\n")
