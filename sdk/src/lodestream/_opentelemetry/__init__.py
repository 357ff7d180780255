"""OpenTelemetry: the tracer provider that instrumentation libraries see, and the span processor for another one."""
