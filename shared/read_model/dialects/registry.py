"""Which dialects there are, and in which order they are believed."""

from shared.read_model.dialects.dialect import Dialect
from shared.read_model.dialects.langfuse import LANGFUSE
from shared.read_model.dialects.lodestream import LODESTREAM
from shared.read_model.dialects.openinference import OPENINFERENCE
from shared.read_model.dialects.otel import OTEL
from shared.read_model.dialects.otel_genai import OTEL_GENAI
from shared.read_model.dialects.traceloop import TRACELOOP

DIALECTS: tuple[Dialect, ...] = (LODESTREAM, LANGFUSE, OPENINFERENCE, TRACELOOP, OTEL_GENAI, OTEL)
"""SDKs that speak for themselves before conventions, the more specific convention before the general one."""
