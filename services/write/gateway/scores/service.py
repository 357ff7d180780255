"""ScoreService: configs are defined here, the reads are forwarded."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor

from services.write.gateway import proxy
from services.write.gateway.admission import Admission
from services.write.gateway.producer import producer_of
from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.refusal import OverQuotaError, exhausted, the_request
from services.write.gateway.scores.config_checks import kept_config
from services.write.gateway.scores.configs import ScoreConfigs
from services.write.gateway.scores.events import defined_record
from services.write.gateway.wire import reason_of
from services.write.gateway.writing import append_all
from shared.event_log.append import Appender
from shared.event_log.position import to_token
from shared.runtime.refusal import Context, InvalidError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings

SERVICE = pb.DESCRIPTOR.services_by_name["ScoreService"]
READABLE_SECONDS = 3.0
"""The longest a writer waits for the read model once the log has the config."""
_ANSWER_SECONDS = 0.2  # left of the caller's deadline to answer in


class Definitions:
    """Answers when the read model has the config; the same request again does no harm."""

    def __init__(
        self,
        settings: GatewaySettings,
        admission: Admission,
        appender: Appender,
        query: grpc.aio.Channel,
        configs: ScoreConfigs,
    ) -> None:
        self._settings, self._admission, self._appender, self._configs = settings, admission, appender, configs
        self._list: Any = query.unary_unary(
            f"/{SERVICE.full_name}/ListScoreConfigs",
            request_serializer=pb.ListScoreConfigsRequest.SerializeToString,
            response_deserializer=pb.ListScoreConfigsResponse.FromString,
        )

    async def define(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """DefineScoreConfig, bytes to bytes."""

        async def answer() -> bytes:
            try:
                return (await self._define(requests, context)).SerializeToString()
            except OverQuotaError as refused:
                raise exhausted(refused) from None

        return await answering("DefineScoreConfig", context, answer)

    async def _define(self, requests: AsyncIterator[bytes], context: Context) -> pb.DefineScoreConfigResponse:
        project_id = await self._admission.admit(context)
        request = await the_request(requests)
        with self._admission.hold(project_id, len(request)):
            now = Timestamp()
            now.GetCurrentTime()
            envelope = Envelope(project_id, producer_of(context), new_event_id(), now, now)
            config = kept_config(_read(request).config, envelope.event_id, "config")
            record = defined_record(config, envelope)
            positions = await append_all(self._appender, [record], context, most=self._settings.ack_seconds)
        token = to_token(positions)
        await self._wait(config.config_id, token, context)
        self._configs.forget(project_id, config.config_id)
        return pb.DefineScoreConfigResponse(config=config, position=token)

    async def _wait(self, config_id: str, token: str, context: Context) -> None:
        remaining = context.time_remaining()
        within = READABLE_SECONDS if remaining is None else min(READABLE_SECONDS, remaining - _ANSWER_SECONDS)
        wait = WaitFor(position=token, timeout_ms=max(1, int(within * 1000)))
        try:
            await self._list(
                pb.ListScoreConfigsRequest(wait_for=wait),
                metadata=proxy.metadata_of(context),
                timeout=max(0.001, within),
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                f"the log has config {config_id} at {token}, but scores can't name it yet ({error.code().name})"
            ) from None


def handlers(definitions: Definitions, query: grpc.aio.Channel) -> grpc.GenericRpcHandler:
    """Every method of the service, bytes to bytes."""
    ours: dict[str, Any] = {"DefineScoreConfig": grpc.stream_unary_rpc_method_handler(definitions.define)}
    return grpc.method_handlers_generic_handler(
        SERVICE.full_name, {**proxy.forwarded(query, SERVICE, but=ours), **ours}
    )


def _read(request: bytes) -> pb.DefineScoreConfigRequest:
    try:
        return pb.DefineScoreConfigRequest.FromString(request)
    except DecodeError as error:
        raise InvalidError("request", f"is no DefineScoreConfigRequest: {reason_of(error)}") from None
