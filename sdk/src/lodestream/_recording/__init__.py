"""Recording: observations of a program and of its instrumentation libraries, until they end."""
