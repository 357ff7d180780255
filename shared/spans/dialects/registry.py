"""Which dialects there are, and in which order they are believed."""

from shared.spans.dialects.dialect import Dialect
from shared.spans.dialects.langfuse import LANGFUSE
from shared.spans.dialects.lodestream import LODESTREAM
from shared.spans.dialects.openinference import OPENINFERENCE
from shared.spans.dialects.otel import OTEL
from shared.spans.dialects.otel_genai import OTEL_GENAI
from shared.spans.dialects.traceloop import TRACELOOP

DIALECTS: tuple[Dialect, ...] = (LODESTREAM, LANGFUSE, OPENINFERENCE, TRACELOOP, OTEL_GENAI, OTEL)
"""SDKs that speak for themselves before conventions, the more specific convention before the general one."""
