"""Every environment variable the backend reads, typed, with its default. Each service reads the groups it needs."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LODESTREAM_", frozen=True, extra="ignore", populate_by_name=True)


def projection_group(projection: str) -> str:
    """The consumer group of a projection: `LODESTREAM_<PROJECTION>_GROUP`, by default `lodestream-<projection>`."""

    class GroupSettings(_Settings):
        model_config = SettingsConfigDict(env_prefix=f"LODESTREAM_{projection.upper()}_")

        group: str = Field(default=f"lodestream-{projection}", min_length=1)

    return GroupSettings().group


class KafkaSettings(_Settings):
    """The event log."""

    bootstrap_servers: str = Field(default="127.0.0.1:9092", validation_alias="LODESTREAM_KAFKA")
    replication_factor: int = Field(default=1, validation_alias="LODESTREAM_KAFKA_REPLICATION_FACTOR", ge=1)
    session_seconds: float = Field(default=15.0, validation_alias="LODESTREAM_KAFKA_SESSION_SECONDS", ge=6, le=300)
    """A reader that is silent for so long has died, and others read its partitions. Brokers take 6 at least."""


class PostgresSettings(_Settings):
    """The read models. The dsn's role owns the schemas; the others may only SELECT."""

    dsn: str = Field(
        default="postgresql://lodestream@127.0.0.1:5432/lodestream", validation_alias="LODESTREAM_POSTGRES"
    )
    reader_dsn: str | None = Field(default=None, validation_alias="LODESTREAM_POSTGRES_READER")
    """The query service's; defaults to `dsn` with the role `lodestream_reader`."""
    gateway_dsn: str | None = Field(default=None, validation_alias="LODESTREAM_POSTGRES_GATEWAY")
    """The gateway's; defaults to `dsn` with the role `lodestream_gateway`."""


class RedisSettings(_Settings):
    """The prompt cache."""

    url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="LODESTREAM_REDIS")


class MetricsSettings(_Settings):
    """Where a process shows its Prometheus metrics and HTTP health; 0 is any free port."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9464


class GatewaySettings(_Settings):
    """The gateway's door and its limits. Quotas are a project's, for each gateway process."""

    model_config = SettingsConfigDict(env_prefix="LODESTREAM_GATEWAY_")

    host: str = "127.0.0.1"
    port: int = Field(default=4317, ge=0, le=65_535)
    reuse_port: bool = False
    """Let several gateway processes listen on the port (SO_REUSEPORT)."""
    query: str = Field(default="127.0.0.1:4319", validation_alias="LODESTREAM_QUERY")
    """host:port of the query service, to which reads are forwarded."""
    max_message_bytes: int = Field(default=16 * MIB, ge=1024, le=64 * MIB)
    """A request, decompressed."""
    max_metadata_bytes: int = Field(default=16 * 1024, ge=1024)
    max_concurrent_streams: int = Field(default=100, ge=1)
    """Calls under way on one connection."""
    max_spans: int = Field(default=50_000, ge=1)
    """In one request."""
    max_events: int = Field(default=1_000, ge=1)
    """In one native request."""
    max_in_flight_bytes: int = Field(default=64 * MIB, ge=MIB)
    """Of requests being handled and records not acknowledged; beyond it requests are refused for a moment."""
    unread_bytes: int = Field(default=128 * MIB, ge=64 * MIB)
    """Bytes of large answers that their clients have not read yet, of all calls."""
    unread_bytes_per_project: int = Field(default=64 * MIB, ge=64 * MIB)
    """Bytes of large answers of one project that are not read yet; more are refused."""
    max_pipelined: int = Field(default=8, ge=1)
    """Requests of one stream handled at the same time."""
    quota_bytes_per_second: float = Field(default=16 * MIB, gt=0)
    """Of requests as they are when they are opened."""
    quota_spans_per_second: float = Field(default=20_000, gt=0)
    quota_burst_seconds: float = Field(default=5.0, gt=0)
    fair_bytes_per_second: float = Field(default=2 * MIB, gt=0)
    """What a project writes beyond this, or the next, goes to bulk partitions: others' spans wait for none of it."""
    fair_spans_per_second: float = Field(default=1_000, gt=0)
    fair_calls_per_second: float = Field(default=200, gt=0)
    """While other projects call and the process is late, calls of a project beyond this wait, after a burst."""
    late_seconds: float = Field(default=0.005, ge=0)
    """How late the process does what is due before calls are paced, for half a minute from then on; 0: always."""
    ack_seconds: float = Field(default=9.0, gt=0, le=60)
    """The longest a request waits for the log, deadline of the caller or not."""
    watched_prompts: int = Field(default=100_000, ge=2_000)
    """Of all open streams together, each of which counts as ten more."""
    watched_prompts_per_project: int = Field(default=20_000, ge=2_000)
    """Of all open streams of one project; more are refused."""
    prompt_memory_bytes: int = Field(default=64 * MIB, ge=0)
    """Of prompts remembered, about."""
    turn_away_seconds: float = Field(default=1.0, ge=0)
    """After SIGTERM: between saying NOT_SERVING and refusing new calls."""
    grace_seconds: float = Field(default=10.0, ge=0)
    """After SIGTERM: what calls under way have to finish."""
    flush_seconds: float = Field(default=5.0, ge=0)
    """After SIGTERM: what records in flight have to be acknowledged."""


class QuerySettings(_Settings):
    """The query service."""

    model_config = SettingsConfigDict(env_prefix="LODESTREAM_QUERY_")

    host: str = "127.0.0.1"
    port: int = Field(default=4319, ge=0, le=65_535)
    connections: int = Field(default=8, ge=1)
    """To Postgres, at most: so many for searches, and as many for what is found by its key."""
    statement_seconds: float = Field(default=10.0, gt=0)
    """The longest a query may run."""
    calls: int = Field(default=12, ge=1)
    """Reads that are served at one time; others wait, and their projects are served in turn."""
    calls_per_project: int = Field(default=4, ge=1)
    """Reads of one project that are served at one time."""
    bulk_calls: int = Field(default=1, ge=1)
    """While other projects read: reads that are served at one time, half of the time, of those that use the most."""
    fair_share: float = Field(default=0.2, gt=0)
    """Seconds a second of what reads take beyond 10 ms each, below which a project is none of those."""
    requests_per_project: int = Field(default=200, ge=1)
    """Reads of one project that wait for a write or a turn, are served, or whose answer is not read yet.

    More are refused after a second.
    """
    wait_seconds: float = Field(default=5.0, gt=0)
    """The longest a read waits for its turn, or for memory; then it is refused with RESOURCE_EXHAUSTED."""
    streams: int = Field(default=1_000, ge=1)
    """Tails and watches."""
    streams_per_project: int = Field(default=20, ge=1)
    """Tails and watches of one project; a tail reads five times a second while its project's traces change."""
    answer_bytes: int = Field(default=15 * MIB // 4, ge=MIB, le=64 * MIB)
    """Spans in an answer that is not a page: less than the 4 MiB that gRPC clients take by default."""
    opened_bytes: int = Field(default=128 * MIB, ge=64 * MIB)
    """Records opened for one answer with content; a page ends there."""
    memory_bytes: int = Field(default=256 * MIB, ge=64 * MIB)
    """Records and trees of traces that are open at one time, of all calls."""
    memory_bytes_per_project: int = Field(default=128 * MIB, ge=64 * MIB)
    """Of this, of the calls of one project."""
    unread_bytes: int = Field(default=128 * MIB, ge=64 * MIB)
    """Bytes of large answers that their clients have not read yet, of all calls."""
    unread_bytes_per_project: int = Field(default=64 * MIB, ge=64 * MIB)
    """Bytes of large answers of one project that are not read yet; further reads wait."""
    trace_spans: int = Field(default=1_000_000, ge=1_000)
    """A trace with more has no overview, and none of its spans is marked as critical."""
    grace_seconds: float = Field(default=10.0, ge=0)
    """After SIGTERM: what calls under way have to finish."""


class InitSettings(_Settings):
    """A first project and its key pair, any strings, made when the gateway starts; all absent: none."""

    model_config = SettingsConfigDict(env_prefix="LODESTREAM_INIT_")

    project_id: str | None = Field(default=None, min_length=1, max_length=64)
    project_name: str | None = None
    """Defaults to the id."""
    public_key: str | None = Field(default=None, min_length=1)
    secret_key: SecretStr | None = Field(default=None, min_length=1)
    """32 characters or more, 9 of them different; any where the gateway listens on a loopback address."""
    weak_secret_allowed: bool = False
    """Take any secret, whatever the gateway listens on: where only one machine reaches it, as in docker-compose.yml."""

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        """The id and both keys belong together."""
        given = [self.project_id, self.public_key, self.secret_key]
        if any(given) and not all(given):
            raise ValueError("PROJECT_ID, PUBLIC_KEY and SECRET_KEY must be set together")
        return self


class ProjectionSettings(_Settings):
    """What any projection folds in one transaction, and so the memory that it takes."""

    model_config = SettingsConfigDict(env_prefix="LODESTREAM_PROJECTION_")

    batch_bytes: int = Field(default=8 * MIB, ge=1)
    """Of records when they are opened."""
    batch_items: int = Field(default=5_000, ge=1)
    """Spans above all; of other events one or a few each."""
    bulk_share: float = Field(default=0.5, gt=0, le=1)
    """While several projects write: the part of the time for which bulk is folded; 1: all of it."""


class KeySettings(_Settings):
    """API keys at the ports of the gateway and of the query service."""

    model_config = SettingsConfigDict(env_prefix="LODESTREAM_KEYS_")

    recheck_seconds: float = Field(default=60.0, gt=0)
    """The longest for which a revoked key is still taken, by calls and by open streams."""
    unknown_per_second: float = Field(default=5.0, gt=0)
    """Unknown keys of one address that are looked up; those beyond are refused without a query."""
    unknown_burst: int = Field(default=50, ge=1)
    """Unknown keys that an address may send at once."""
    address_header: str | None = Field(default=None, min_length=1)
    """The metadata in which a trusted proxy tells the caller's address, `x-forwarded-for`: its last one counts.
    Absent: the address of the connection. Anybody can send this header where no proxy sets it."""


class EvaluatorSettings(_Settings):
    """The evaluator's workers: any number, at any time. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="LODESTREAM_EVALUATOR_")

    group: str = Field(default="lodestream-evaluator", min_length=1)
    """Workers of one group share the partitions of the topic; all workers of a database share the jobs."""
    providers: Path | None = Field(default=None, validation_alias="LODESTREAM_PROVIDERS")
    """A JSON file of model endpoints by name; without one there are none."""
    provider_grace_seconds: float = Field(default=600.0, gt=0)
    """For which a provider counts as offered after the last worker that offers it was seen; then its runs end."""
    slots: int = Field(default=48, ge=1)
    """Items under way in one process; a project that is alone has at most two thirds of them."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """After so long without a heartbeat, what a worker had under way is another's."""
    heartbeat_seconds: float = Field(default=2.0, gt=0)
    """How soon a cancelled run's calls are given up, at the latest; never more than a quarter of the lease."""
    attempts: int = Field(default=5, ge=1)
    """Of an item, before it ends with an error."""
    call_seconds: float = Field(default=120.0, gt=0)
    """The longest a model may take to answer."""
    evaluation_seconds: float = Field(default=60.0, gt=0)
    """The longest an evaluator may take, a judge's calls included."""
    grace_seconds: float = Field(default=10.0, ge=0)
    """After SIGTERM: what items under way have to finish; the others are given back."""
    memory_bytes: int = Field(default=1024 * MIB, ge=256 * MIB)
    """Of data that the process may hold (RLIMIT_DATA); what would take more fails, and the process lives."""


def interpreter_environment() -> dict[str, str]:
    """What an interpreter needs of the environment to start, for processes that are given no keys and no addresses."""
    needed = ("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
    return {name: os.environ[name] for name in needed if name in os.environ}


def secret(variable: str) -> SecretStr | None:
    """What the environment variable of this name holds, for files of settings that name secrets."""
    value = os.environ.get(variable)
    return SecretStr(value) if value else None


class MockBehaviour(BaseModel):
    """How the mock model behaves, unless a request says otherwise. Times in seconds, rates from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seed: int = 0
    speed: float = Field(default=1.0, gt=0)
    """Divides the times that are waited for; inf waits for nothing."""
    first_token_seconds: float = Field(default=0.15, ge=0, le=600)
    tokens_per_second: float = Field(default=250.0, gt=0)
    latency_seconds: float | None = Field(default=None, ge=0, le=600)
    """Of the whole answer, instead of what its tokens take."""
    latency_jitter: float = Field(default=0.0, ge=0, le=1)
    error_rate: float = Field(default=0.0, ge=0, le=1)
    """Of tries that end with 503: the next may succeed."""
    rate_limit_rate: float = Field(default=0.0, ge=0, le=1)
    """Of tries that end with 429."""
    refusal_rate: float = Field(default=0.0, ge=0, le=1)
    """Of questions that end with 400, always."""
    retry_after_seconds: float = Field(default=1.0, ge=0, le=3600)
    """What is told with 429 and 503."""


class MockLlmSettings(MockBehaviour, _Settings):
    """The mock model's HTTP door, for demos and tests."""

    model_config = SettingsConfigDict(env_prefix="LODESTREAM_MOCK_LLM_")

    host: str = "127.0.0.1"
    port: int = Field(default=4320, ge=0, le=65_535)
    requests_per_second: float = Field(default=0.0, ge=0)
    """Beyond it requests get 429; 0: without end."""
    burst: int = Field(default=10, ge=1)
    """Requests that may come at once, where there is a limit."""
    max_body_bytes: int = Field(default=8 * MIB, ge=1024)
    rules: Path | None = None
    """A JSON file of what is said and which tools are called, by what the user said: `services/mock_llm/tools.py`."""
    grace_seconds: float = Field(default=5.0, ge=0)
    """After SIGTERM: what answers under way have to finish."""


class PriceSettings(_Settings):
    """What tokens cost: a file of prices instead of the one that is shipped."""

    prices: Path | None = None


class LogSettings(_Settings):
    """How a process logs: `text` for people, `json` for machines; by default text on a terminal."""

    log_level: str = "INFO"
    log_format: str | None = None
