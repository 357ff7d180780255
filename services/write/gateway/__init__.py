"""The one door for programs: OTLP and native writes, appended to the log before they are answered; reads forwarded.

Reads API keys and score configs from Postgres, and prompts from Redis and the query service; writes the topics of the
log, offers what it has read of prompts to Redis, and writes nothing else. Any number of processes may serve, also
several on one port.
"""
