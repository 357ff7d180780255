"""The gateway that programs call: writes, appended to the log before they are answered, and reads, forwarded.

It reads from Postgres what writes refer to (API keys, score configs, datasets, runs, prompt heads, what providers offer
and what projects have spent), and prompts from Redis and the query service. It writes the topics of the log, offers
heads of prompts to Redis, makes the first project and key that its settings name, and writes nothing else. Any number
of processes may serve, also several on one port.

A write goes `server` → `admission` → `write_rpc` → the service of its RPC (`otlp`, `ingest`, `scores`, `datasets`,
`experiments`, `prompts/commands`) → the log; a read goes through `proxy`, or `prompts/reads`.
"""
