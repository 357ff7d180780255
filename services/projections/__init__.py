"""Events become read models: one folder, one consumer group, one Postgres schema each."""
