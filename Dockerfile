# The service as an image, for a CPU or, with TORCH_INDEX empty, for NVIDIA GPUs, or without torch, for compiled models:
# `make image`, `make image DEVICE=cuda`, `make image TARGET=slim`.

# The Python that constraints.txt is tried with.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS python
WORKDIR /build
RUN python -m venv /opt/venv
# With a date, bytecode is written that goes by what its source says, not by when it was written: copied to another stage
# by buildah, that is rounded up or down, and what seems stale would be compiled at every start.
ENV PATH=/opt/venv/bin:$PATH \
    SOURCE_DATE_EPOCH=315532800
# Where the service comes to lie: it heeds no PYTHONPATH.
RUN echo /opt/service > "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/service.pth"
COPY pyproject.toml constraints.txt deploy/requirements.py ./

# What is installed from elsewhere: gigabytes that change rarely, a layer of their own.
FROM python AS dependencies
# The default index has torch for GPUs; PyTorch's own has it for CPUs, a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --no-deps -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
RUN python requirements.py > requirements.txt && pip install --no-cache-dir -c constraints.txt -r requirements.txt

# The same without torch, and without what no process of a service opens: drivers of other devices, which builds for ARM
# lack, readers of other formats and AWS's other services, tests, sources, what fetches and converts models, and pip.
FROM python AS slim-dependencies
RUN python requirements.py slim > requirements.txt && pip install --no-cache-dir -c constraints.txt -r requirements.txt \
    && pip uninstall --yes hf-xet huggingface-hub setuptools pip
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN find . -type d -name tests -prune -exec rm -r {} + \
    && find . -regex '.*\.\(a\|c\|h\|pxd\|pyi\|pyx\)\|.*/RECORD' -delete \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts -exec rm -r {} + \
    && find openvino/frontend -mindepth 1 -maxdepth 1 -type d ! -name onnx ! -name __pycache__ -exec rm -r {} + \
    && find openvino/libs -regex '.*/cache.json\|.*_intel_[gn]pu_plugin.*' -delete \
    && rm -r openvino/include openvino/tools \
        openvino/libs/*_gguf_* openvino/libs/*_paddle_* openvino/libs/*_pytorch_* openvino/libs/*_tensorflow_* \
        onnxruntime/capi/libonnxruntime.so.* onnxruntime/quantization onnxruntime/tools onnxruntime/transformers \
    && python -B -c "import onnxruntime, openvino, s3fs, scipy.ndimage, scipy.sparse.linalg, scipy.stats, tokenizers"

# The service itself: tens of megabytes, mostly the embedded models.
FROM python AS service
RUN pip install --no-cache-dir -c constraints.txt setuptools
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --target /opt/service .

# What puts load on it: `docker compose --profile load up`.
FROM dependencies AS load
RUN pip install --no-cache-dir -c constraints.txt locust
COPY --from=service /opt/service /opt/service
USER 10001:10001
ENTRYPOINT ["locust"]

FROM ${BASE} AS run
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

FROM run AS slim
COPY --from=slim-dependencies /opt/venv /opt/venv
COPY --from=service /opt/service /opt/service

FROM run
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=service /opt/service /opt/service
