"""What a projection reads, as an AsyncAPI document."""

import json
from collections.abc import Callable

from faststream.asgi import AsgiFastStream

from shared.runtime.settings import KafkaSettings, PostgresSettings


def document(create_app: Callable[[KafkaSettings, PostgresSettings], AsgiFastStream]) -> str:
    """The document, for the default addresses."""
    app = create_app(KafkaSettings.model_construct(), PostgresSettings.model_construct())
    return json.dumps(app.schema.to_specification().to_jsonable(), indent=2) + "\n"
