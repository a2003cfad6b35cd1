# The images of triton-video; docs/containers.md says what each is for, and which versions were tried together.
#
#     docker build --target proxy -t triton-video:0.1.0-proxy .     the Videos API and its workers; no torch
#     docker build --target cpu   -t triton-video:0.1.0-cpu   .     beside them Triton, the stages, a small checkpoint
#     docker build --target gpu   -t triton-video:0.1.0-gpu   .     the same on NVIDIA's image of Triton
#
# The classic builder of docker 20.10 builds it as well as BuildKit does: no mounts, no here-documents.

# Any image with Python 3.11 or 3.12, its module venv and its shared libpython: a mirror's, or one that is made of
# Debian's packages (scripts/base_image.sh).
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.07-py3

# --- Packages, before any code of ours: stages that are thrown away, and pip with them ---------------------------------

FROM ${BASE_IMAGE} AS wanted
# Of its own, so that what else changes in pyproject.toml installs nothing anew: a copied file is known by its content.
WORKDIR /build
COPY pyproject.toml scripts/requirements.py ./
RUN python3 requirements.py proxy tracing >proxy.txt \
    && python3 requirements.py proxy tracing embedded export >cpu.txt \
    && python3 requirements.py --without nvidia-pytriton proxy tracing embedded export >gpu.txt

FROM ${BASE_IMAGE} AS packages
# Where pip looks. What is said here is in no image: neither in its files nor in its history.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=
ARG PIP_NO_INDEX=
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} \
    PIP_FIND_LINKS=${PIP_FIND_LINKS} PIP_NO_INDEX=${PIP_NO_INDEX} \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python3 -m venv /opt/venv
# The folder of scripts/wheels.sh, where it was run: --build-arg PIP_FIND_LINKS=/build/wheels. The other source is there
# since a COPY must find something.
COPY constraints.txt build/wheel[s] wheels/

# pip would compile on one core; some packages have files that are no Python of this version.
FROM packages AS proxy-packages
COPY --from=wanted /build/proxy.txt wanted.txt
RUN /opt/venv/bin/pip install -q --no-compile -c wheels/constraints.txt -r wanted.txt \
    && /opt/venv/bin/pip uninstall -q -y setuptools pip \
    && (python3 -m compileall -q -j 0 /opt/venv/lib >/dev/null || true)

FROM packages AS cpu-packages
COPY --from=wanted /build/cpu.txt wanted.txt
RUN /opt/venv/bin/pip install -q --no-compile -c wheels/constraints.txt -r wanted.txt \
    && /opt/venv/bin/pip uninstall -q -y pip \
    && (python3 -m compileall -q -j 0 /opt/venv/lib >/dev/null || true)

# --- Our own package, laid out as it will lie over one of those stages -------------------------------------------------

FROM packages AS project
RUN /opt/venv/bin/pip install -q hatchling
COPY pyproject.toml README.md LICENSE triton_video.py source/
COPY pipeline source/pipeline/
COPY export source/export/
COPY proxy source/proxy/
COPY cli source/cli/
COPY models source/models/
COPY model_repository source/model_repository/
RUN /opt/venv/bin/pip install -q --no-deps --no-build-isolation --prefix /opt/project ./source

# --- What every image has ----------------------------------------------------------------------------------------------

FROM ${BASE_IMAGE} AS base
RUN groupadd --gid 1000 triton-video \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin triton-video \
    && install -d -o 1000 -g 1000 /data /cache
ENV PATH=/opt/venv/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TRITON_VIDEO_DATA_PATH=/data TRITON_VIDEO_CACHE=/cache HF_HOME=/cache/huggingface \
    ORT_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_UPDATE_CHECK=1 \
    HF_XET_TELEMETRY_ENABLED=false DISABLE_SAFETENSORS_CONVERSION=1 DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
WORKDIR /data
USER 1000:1000
EXPOSE 30010
ENTRYPOINT ["triton-video"]
CMD ["serve", "--host", "0.0.0.0"]
# Of `serve`. Who runs something else says how to see that it is well, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:30010/readyz', timeout=4)"]

# --- The images --------------------------------------------------------------------------------------------------------

FROM base AS proxy
COPY --from=proxy-packages /opt/venv /opt/venv
COPY --from=project /opt/project /opt/venv
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="triton-video proxy" \
    org.opencontainers.image.description="The OpenAI Videos API and its workers, in front of Triton" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM base AS cpu
COPY --from=cpu-packages /opt/venv /opt/venv
COPY --from=project /opt/project /opt/venv
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="triton-video cpu" \
    org.opencontainers.image.description="Videos from text on a CPU: Triton, the stages and a small checkpoint" \
    org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND GPL-2.0-or-later" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
EXPOSE 8000 8001 8002

# Untested: NVIDIA's image was never at hand. Its Python is 3.12, its tritonserver and backends are in /opt/tritonserver.
FROM ${TRITON_IMAGE} AS gpu-packages
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=
ARG PIP_NO_INDEX=
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} \
    PIP_FIND_LINKS=${PIP_FIND_LINKS} PIP_NO_INDEX=${PIP_NO_INDEX} \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
COPY constraints.txt ./
COPY --from=wanted /build/gpu.txt wanted.txt
# The wheel of Triton for machines without a container stays out: the image is one.
RUN /opt/venv/bin/pip install -q -c constraints.txt -r wanted.txt hatchling
COPY pyproject.toml README.md LICENSE triton_video.py source/
COPY pipeline source/pipeline/
COPY export source/export/
COPY proxy source/proxy/
COPY cli source/cli/
COPY models source/models/
COPY model_repository source/model_repository/
RUN /opt/venv/bin/pip install -q --no-deps --no-build-isolation --prefix /opt/project ./source \
    && /opt/venv/bin/pip uninstall -q -y hatchling pip

FROM ${TRITON_IMAGE} AS gpu
# NVIDIA's image has a user of this number already.
RUN install -d -o 1000 -g 1000 /data /cache
ENV PATH=/opt/venv/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TRITON_VIDEO_DATA_PATH=/data TRITON_VIDEO_CACHE=/cache HF_HOME=/cache/huggingface \
    ORT_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_UPDATE_CHECK=1 \
    HF_XET_TELEMETRY_ENABLED=false DISABLE_SAFETENSORS_CONVERSION=1 DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
WORKDIR /data
COPY --from=gpu-packages /opt/venv /opt/venv
COPY --from=gpu-packages /opt/project /opt/venv
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="triton-video gpu" \
    org.opencontainers.image.description="Videos from text on NVIDIA GPUs: NVIDIA's Triton and the stages" \
    org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND GPL-2.0-or-later" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
USER 1000:1000
EXPOSE 30010 8000 8001 8002
ENTRYPOINT ["triton-video"]
CMD ["serve", "--host", "0.0.0.0"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:30010/readyz', timeout=4)"]
