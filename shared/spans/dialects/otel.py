"""OpenTelemetry's general conventions, which stand behind every dialect."""

from shared.spans.dialects.dialect import Dialect

OTEL = Dialect(
    name="otel",
    user_id=("user.id", "enduser.id"),
    session_id=("session.id",),
    environment=("deployment.environment.name", "deployment.environment"),
    version=("service.version",),
    input=("input",),
    output=("output",),
)
