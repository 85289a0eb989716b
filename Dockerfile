# The images of Reelmap: a target per service, `flower` for a look at the queues, `s3` for an object store beside them.
#
#   docker build --target keyframes --tag reelmap-keyframes:0.1.0 .
#
# All carry the same source under /app; only the packages differ, and those are what the tests ran with. What runs is
# not root, and writes to /tmp and below /var/lib/reelmap only, so that the root can be read-only.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- What is built, on images that are thrown away -------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/images/build.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip \
    apt-get update \
    && apt-get install --yes --quiet --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --quiet --no-deps --require-hashes -r /build/build.txt \
    && python -m venv --without-pip /opt/venv
# Lock files are whole, so nothing is resolved; wheels only, so nothing of strangers runs here. Left out of them is what
# nobody uses: the packages' own tests, what only type checkers, compilers and debuggers read, and what botocore knows of
# services other than storage and signing in.
COPY --chmod=755 <<'END' /usr/local/bin/install-locked
#!/bin/sh
set -eu
pip --python /opt/venv/bin/python install --quiet --no-deps --only-binary :all: --require-hashes -r "$1"
cd /opt/venv/lib/python3*/site-packages
find . -type d -name tests -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' -o -name '*.map' \) -delete
find . -type f \( -name '*.cpython-*.so' -o -name '*.abi3.so' \) -exec strip --strip-unneeded {} +
[ ! -d botocore/data ] || find botocore/data -mindepth 1 -maxdepth 1 -type d \
    ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +
END

# Reelmap itself, with its metadata and its command.
FROM builder AS source
COPY pyproject.toml README.md LICENSE /src/
COPY services /src/services
COPY shared /src/shared
RUN pip install --quiet --no-deps --no-build-isolation --no-index --target /app /src \
    && sed -i '1s|.*|#!/opt/venv/bin/python|' /app/bin/reelmap

FROM builder AS api-packages
COPY requirements/images/api.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip install-locked /build/api.txt

FROM builder AS dispatcher-packages
COPY requirements/images/dispatcher.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip install-locked /build/dispatcher.txt

FROM builder AS keyframes-packages
COPY requirements/images/keyframes.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip install-locked /build/keyframes.txt

FROM builder AS clustering-packages
COPY requirements/images/clustering.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip install-locked /build/clustering.txt

FROM builder AS exports-packages
COPY requirements/images/exports.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip install-locked /build/exports.txt

# TORCH=cuda takes the wheels that the lock names, with CUDA; TORCH=cpu the same versions from the index of CPU wheels
# that uv knows, or from the one that TORCH_INDEX names (a mirror). Those have other hashes than the lock's.
FROM builder AS embedding-packages
ARG TORCH=cpu
ARG TORCH_INDEX=""
COPY requirements/lock.txt requirements/torch.txt requirements/images/embedding.txt /build/
# Without triton, 1 GB that only compiled networks use.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=cache,target=/root/.cache/uv <<'END'
    set -eu
    install-locked /build/embedding.txt
    case "$TORCH" in
        cuda)
            awk '/^[a-z]/ { keep = !/^triton==/ } keep' /build/torch.txt > /build/torch-without-triton.txt
            install-locked /build/torch-without-triton.txt
            ;;
        cpu)
            sed -n 's/ \\$//; /^[A-Za-z0-9_.-]*==/p' /build/lock.txt /build/torch.txt > /build/versions.txt
            if [ -n "$TORCH_INDEX" ]; then where="--default-index $TORCH_INDEX"; else where="--torch-backend cpu"; fi
            uv pip install --quiet --python /opt/venv/bin/python $where --link-mode copy --compile-bytecode \
                --constraint /build/versions.txt torch torchvision
            ;;
        *)
            echo "TORCH is '$TORCH'; it must be cpu or cuda" >&2
            exit 1
            ;;
    esac
    rm -rf /opt/venv/lib/python3*/site-packages/torch/include /opt/venv/lib/python3*/site-packages/torch/share
END

FROM builder AS flower-packages
COPY requirements/images/flower.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip install-locked /build/flower.txt

# Weights to bake into the embedding image: none, unless a folder is given in place of this stage by
# `--build-context weights=FOLDER`.
FROM scratch AS weights

# --- What runs -------------------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS runtime
# tini hands signals on and buries orphans; it signals its child only, which stops its own children in good order.
RUN apt-get update \
    && apt-get install --yes --quiet --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 reelmap \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin reelmap \
    && install --directory --owner 10001 --group 10001 \
        /var/lib/reelmap /var/lib/reelmap/blobs /var/lib/reelmap/work /var/lib/reelmap/weights
ENV PATH=/opt/venv/bin:/app/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    REELMAP_WORK_FOLDER=/var/lib/reelmap/work
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="reelmap" \
      org.opencontainers.image.description="What is in my videos? Key frames, embeddings and clusters." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS worker
ENV REELMAP_ALIVE_FILE=/tmp/alive
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["python", "-m", "shared.liveness", "/tmp/alive", "--max-age-s", "60"]

FROM runtime AS api
COPY --from=api-packages /opt/venv /opt/venv
COPY --from=source /app /app
ENV REELMAP_API_HOST=0.0.0.0 REELMAP_API_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "-m", "services.api.server"]

FROM worker AS dispatcher
COPY --from=dispatcher-packages /opt/venv /opt/venv
COPY --from=source /app /app
CMD ["python", "-m", "services.dispatcher.main"]

FROM worker AS keyframes
USER 0:0
# The filter of system calls that each video is read behind.
RUN apt-get update \
    && apt-get install --yes --quiet --no-install-recommends libseccomp2 \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=keyframes-packages /opt/venv /opt/venv
COPY --from=source /app /app
CMD ["python", "-m", "services.keyframes.worker"]

FROM worker AS clustering
COPY --from=clustering-packages /opt/venv /opt/venv
COPY --from=source /app /app
CMD ["python", "-m", "services.clustering.worker"]

FROM worker AS exports
COPY --from=exports-packages /opt/venv /opt/venv
COPY --from=source /app /app
CMD ["python", "-m", "services.exports.worker"]

FROM worker AS embedding
COPY --from=embedding-packages /opt/venv /opt/venv
# Weights may be baked in, from a folder or from the hubs; or a volume is mounted here. Workers never fetch any.
ENV REELMAP_WEIGHTS_DIR=/var/lib/reelmap/weights REELMAP_HUB=no
COPY --from=weights --chown=10001:10001 / /var/lib/reelmap/weights/
COPY --from=source /app /app
ARG WEIGHTS=""
ARG OWN_MODELS={}
RUN if [ -n "$WEIGHTS" ]; then \
        REELMAP_HUB=yes REELMAP_OWN_MODELS="$OWN_MODELS" python -m services.embedding.fetch_weights $WEIGHTS; fi
CMD ["python", "-m", "services.embedding.worker", "--queue", "embedding"]

# Reads the queues only; nothing of Reelmap is in it.
FROM runtime AS flower
COPY --from=flower-packages /opt/venv /opt/venv
EXPOSE 5555
CMD ["celery", "flower"]

# An object store for one machine (VersityGW), with a folder for its volume that others than root may write to.
FROM versity/versitygw:v1.8.0 AS s3
RUN mkdir /data && chown 10001:10001 /data
USER 10001:10001
