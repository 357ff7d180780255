"""What tracing costs the traced program: our SDK beside OpenTelemetry's and Langfuse's, in one run."""
