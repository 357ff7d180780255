"""The one door for programs: OTLP and native writes, appended to the log before they are answered; reads forwarded.

Reads API keys from Postgres; writes the topic `lodestream.traces` and nothing else. Any number of processes may serve,
also several on one port.
"""
