"""The `lodestream` command: what the server knows, as pictures in a terminal or as JSON.

It is a client of the gateway's gRPC API and holds no SQL. Only `admin` and `dead-letters` connect to Postgres, for what
has no API. Each noun is a module with its commands and the pictures that only they show; what several commands show is
in `render`, as pure functions.

It reads LODESTREAM_ENDPOINT, LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY; where those are not set, the status file
of a stack that runs in this folder. Exit codes: 0 done, 1 failed or not found, 2 wrong usage.
"""
