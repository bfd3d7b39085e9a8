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

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --create-home sluice
COPY --from=build /opt/sluice /opt/sluice
ENV PATH=/opt/sluice/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /home/sluice
USER sluice
ENTRYPOINT ["python", "-m"]
CMD ["services.transfer"]
