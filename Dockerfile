# One image for every service: built with the locked packages, run without build tools and without root.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/sluice
COPY requirements.lock .
RUN /opt/sluice/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY services services
COPY ops ops
COPY local local
COPY benchmarks benchmarks
RUN /opt/sluice/bin/pip install --no-cache-dir --no-deps .
# The console's scripts; without them its pages work, too.
RUN XDG_CACHE_HOME=/opt/sluice/cache /opt/sluice/bin/python -c 'from local.jars import scripts; scripts()' || true

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --create-home sluice
COPY --from=build /opt/sluice /opt/sluice
RUN install -d -o sluice -g sluice /home/sluice/console
ENV PATH=/opt/sluice/bin:$PATH PYTHONUNBUFFERED=1 XDG_CACHE_HOME=/opt/sluice/cache
WORKDIR /home/sluice
USER sluice
ENTRYPOINT ["python", "-m"]
CMD ["services.transfer"]
