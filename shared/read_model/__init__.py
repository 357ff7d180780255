"""The read models' ground: Postgres, migrations, API keys and the fence that makes every record count once."""
