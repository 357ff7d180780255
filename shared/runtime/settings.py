"""Every environment variable the backend reads, typed, with its default. Each service reads the groups it needs."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LODESTREAM_", frozen=True, extra="ignore", populate_by_name=True)


class KafkaSettings(_Settings):
    """The event log."""

    bootstrap_servers: str = Field(default="127.0.0.1:9092", validation_alias="LODESTREAM_KAFKA")
    replication_factor: int = Field(default=1, validation_alias="LODESTREAM_KAFKA_REPLICATION_FACTOR", ge=1)


class PostgresSettings(_Settings):
    """The read models. The dsn's role owns the schemas; the reader's may only SELECT."""

    dsn: str = Field(
        default="postgresql://lodestream@127.0.0.1:5432/lodestream", validation_alias="LODESTREAM_POSTGRES"
    )
    reader_dsn: str | None = Field(default=None, validation_alias="LODESTREAM_POSTGRES_READER")
    """Defaults to `dsn` with the role `lodestream_reader`."""


class RedisSettings(_Settings):
    """The prompt cache."""

    url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="LODESTREAM_REDIS")


class MetricsSettings(_Settings):
    """Where a process shows its Prometheus metrics and HTTP health; 0 is any free port."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9464


class TracesProjectionSettings(_Settings):
    """The traces projection. Processes of one group share the partitions; each group has a database of its own."""

    group: str = Field(default="lodestream-traces", validation_alias="LODESTREAM_TRACES_GROUP", min_length=1)


class PriceSettings(_Settings):
    """What tokens cost: a file of prices instead of the one that is shipped."""

    prices: Path | None = None


class LogSettings(_Settings):
    """How a process logs: `text` for people, `json` for machines; by default text on a terminal."""

    log_level: str = "INFO"
    log_format: str | None = None
