# One image for every process; the command is the role, for example `python -m services.write.gateway`.
FROM python:3.11-slim AS build
WORKDIR /build
# The locked packages first: they change seldom, and these layers are kept until they do. What builds stays out of the
# environment that is taken along.
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv tools \
 && tools/bin/pip install --disable-pip-version-check --require-hashes -r requirements/build.lock \
 && python -m venv --without-pip /opt/lodestream \
 && tools/bin/pip --python /opt/lodestream/bin/python install \
    --disable-pip-version-check --require-hashes -r requirements/runtime.lock
COPY pyproject.toml LICENSE ./
COPY proto proto
COPY evals evals
COPY shared shared
COPY services services
RUN tools/bin/pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir wheels ./proto ./evals . \
 && tools/bin/pip --python /opt/lodestream/bin/python install --disable-pip-version-check --no-deps --no-index wheels/*

FROM python:3.11-slim
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin lodestream
COPY --from=build /opt/lodestream /opt/lodestream
# In a container the way in is decided by who publishes the port, so every process listens on all of its interfaces.
ENV PATH=/opt/lodestream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LODESTREAM_GATEWAY_HOST=0.0.0.0 \
    LODESTREAM_QUERY_HOST=0.0.0.0 \
    LODESTREAM_METRICS_HOST=0.0.0.0
USER 10001:10001
CMD ["lodestream", "--help"]
