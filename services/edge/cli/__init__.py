"""The `lodestream` command: what the query service knows, drawn in a terminal or as JSON.

It is a client of our own gRPC API and holds no SQL; only `admin` goes to Postgres, for projects and keys, which have no
API. Each command is a file here; how its answer looks is in `render`, as pure functions.

It reads LODESTREAM_ENDPOINT, LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY; where those are not set, the status file
of a stack that runs in this folder. Exit codes: 0 done, 1 failed or not found, 2 the command line makes no sense.
"""
