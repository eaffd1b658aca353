# The service as an image, for a CPU or, with TORCH_INDEX empty, for NVIDIA GPUs: `make image`, `make image DEVICE=cuda`.

# The Python that constraints.txt is tried with.
ARG BASE=python:3.11-slim-bookworm

# What is installed from elsewhere: gigabytes that change rarely, a layer of their own.
FROM ${BASE} AS dependencies
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Where the service comes to lie: it heeds no PYTHONPATH.
RUN echo /opt/service > "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/service.pth"
COPY pyproject.toml constraints.txt ./
# The default index has torch for GPUs; PyTorch's own has it for CPUs, a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --no-deps -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; e = p['optional-dependencies']; \
        extras = sum((e[extra] for extra in ('s3', 'tracing', 'dicom', 'transformers', 'grpc')), []); \
        print(*p['dependencies'], *extras, 'setuptools', sep='\n')" > requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r requirements.txt

# The service itself: a few megabytes.
FROM dependencies AS service
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --target /opt/service .

# What puts load on it: `docker compose --profile load up`.
FROM dependencies AS load
RUN pip install --no-cache-dir -c constraints.txt locust
COPY --from=service /opt/service /opt/service
USER 10001:10001
ENTRYPOINT ["locust"]

FROM ${BASE}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="gradcam-service" \
      org.opencontainers.image.description="What does this image model see, and where does it look?" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# All that is written goes to /dev/shm (sockets, metrics), /tmp and /cache (what was fetched from URLs), so that the rest
# can be read-only.
RUN install -d -o 10001 -g 10001 /cache
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=service /opt/service /opt/service
ENV PATH=/opt/service/bin:/opt/venv/bin:$PATH \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    TORCH_HOME=/cache/torch \
    GRADCAM_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-I", "-c", "\
import http.client, os, sys; \
c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('GRADCAM_PORT') or 8000), timeout=4); \
c.request('GET', '/readyz'); \
sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["gradcam"]
CMD ["serve"]
