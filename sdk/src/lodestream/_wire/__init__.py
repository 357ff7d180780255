"""The wire: OTLP's spans and the contract's events as bytes, without protobuf's library."""
