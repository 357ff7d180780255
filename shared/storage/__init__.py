"""Where the read models live: Postgres, its migrations, named queries, and the prompt cache in Redis."""
