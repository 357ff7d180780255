#!/bin/sh
# Resolves the dependencies into universal, hashed locks that hold no download address.
set -eu
compile() { .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
    --no-emit-package lodestream --no-emit-package lodestream-evals --no-emit-package lodestream-proto --no-emit-package lodestream-server "$@"; }
compile requirements/bootstrap.in -o requirements/bootstrap.lock
compile pyproject.toml --extra embedded --group build --group dev -o requirements/dev.lock
compile pyproject.toml -c requirements/dev.lock -o requirements/runtime.lock
compile --group build -c requirements/dev.lock -o requirements/build.lock
compile requirements/docs.in -c requirements/dev.lock -o requirements/docs.lock
compile requirements/mutants.in -c requirements/dev.lock -o requirements/mutants.lock
compile requirements/peers.in -o requirements/peers.lock
for packages in requirements/matrix/*.in; do
    compile --upgrade sdk/pyproject.toml requirements/matrix.in "$packages" -o "${packages%.in}.lock"
done
.venv/bin/python -m services.all_in_one.jars > requirements/kafka.lock.new && mv requirements/kafka.lock.new requirements/kafka.lock
