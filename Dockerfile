# The images of triton-video. docs/containers.md describes each and the tested combinations.
#
#     docker build --target proxy -t triton-video:0.1.0-proxy .  the Videos API, workers; no torch
#     docker build --target cpu   -t triton-video:0.1.0-cpu   .  the same, Triton, a small checkpoint
#     docker build --target gpu   -t triton-video:0.1.0-gpu   .  the same, on NVIDIA's Triton image
#
# Works with the classic builder of docker 20.10 and with BuildKit: no mounts, no here-documents.

# Any image with Python 3.11 or 3.12, its module venv and its shared libpython. scripts/base_image.sh
# makes one from Debian's packages.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.07-py3

# --- Packages, before this project's code: these stages are discarded, with their pip ------------

FROM ${BASE_IMAGE} AS wanted
# A separate stage: other changes of pyproject.toml leave its output, and so the next stages, cached.
WORKDIR /build
COPY pyproject.toml scripts/requirements.py ./
RUN python3 requirements.py proxy tracing >proxy.txt \
    && python3 requirements.py proxy tracing embedded export >cpu.txt \
    && python3 requirements.py --without nvidia-pytriton proxy tracing embedded export >gpu.txt

FROM ${BASE_IMAGE} AS packages
# Where pip looks for packages. These values are in no image: neither in files nor in the history.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=
ARG PIP_NO_INDEX=
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} \
    PIP_FIND_LINKS=${PIP_FIND_LINKS} PIP_NO_INDEX=${PIP_NO_INDEX} \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python3 -m venv /opt/venv
# The folder of scripts/wheels.sh, if it was run: --build-arg PIP_FIND_LINKS=/build/wheels. The first
# source is here because a COPY must match at least one file.
COPY constraints.txt build/wheel[s] wheels/

# Compiled in parallel, which pip does not do. Some packages have files for other Python versions.
FROM packages AS proxy-packages
COPY --from=wanted /build/proxy.txt wanted.txt
RUN /opt/venv/bin/pip install -q --no-compile -c wheels/constraints.txt -r wanted.txt \
    && /opt/venv/bin/pip uninstall -q -y setuptools pip \
    && (python3 -m compileall -q -j 0 /opt/venv/lib >/dev/null || true)

FROM packages AS cpu-packages
COPY --from=wanted /build/cpu.txt wanted.txt
# The CPU build of torch, of a third of the size; PyPI's where its index cannot be used.
RUN /opt/venv/bin/pip install -q --no-compile --no-deps --timeout 15 --retries 0 \
        --index-url https://download.pytorch.org/whl/cpu \
        "torch==$(sed -n 's/^torch==//p' wheels/constraints.txt)+cpu" \
    || echo "taking PyPI's build of torch"
RUN /opt/venv/bin/pip install -q --no-compile -c wheels/constraints.txt -r wanted.txt \
    && /opt/venv/bin/pip uninstall -q -y pip \
    && (python3 -m compileall -q -j 0 /opt/venv/lib >/dev/null || true)

# --- This project, laid out to be copied over one of those stages --------------------------------

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

# --- Shared by all images ------------------------------------------------------------------------

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
# For `serve`. With another command set a health check, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:30010/readyz', timeout=4)"]

# --- The images ----------------------------------------------------------------------------------

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
    org.opencontainers.image.description="Text-to-video on a CPU: Triton, the stages and a small checkpoint" \
    org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND GPL-2.0-or-later" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
EXPOSE 8000 8001 8002

# Untested. NVIDIA's image has Python 3.12; its tritonserver and backends are in /opt/tritonserver.
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
# Without nvidia-pytriton: the image contains Triton.
RUN /opt/venv/bin/pip install -q -c constraints.txt -r wanted.txt hatchling
# TensorRT's Python API for the library of the image: both its parts and Triton's tensorrt backend
# load that library, so an engine runs where it was built. The packages depend on a second TensorRT.
COPY scripts/tensorrt_packages.py ./
RUN python3 tensorrt_packages.py >tensorrt.txt \
    && /opt/venv/bin/pip install -q --no-deps -r tensorrt.txt
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
# NVIDIA's image already has a user with this id.
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
    org.opencontainers.image.description="Text-to-video on NVIDIA GPUs: NVIDIA's Triton and the stages" \
    org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND GPL-2.0-or-later" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
USER 1000:1000
EXPOSE 30010 8000 8001 8002
ENTRYPOINT ["triton-video"]
CMD ["serve", "--host", "0.0.0.0"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:30010/readyz', timeout=4)"]
