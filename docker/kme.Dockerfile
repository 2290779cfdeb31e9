# A key manager (KME) by ETSI GS QKD 014.
FROM python:3.12.11-slim-bookworm

COPY pyproject.toml README.md LICENSE /build/
COPY deffd_flower /build/deffd_flower
RUN python -m pip install --no-cache-dir "/build[kme]" \
    && useradd --uid 49999 --no-create-home app

USER 49999
ENTRYPOINT ["deffd", "kme", "serve"]
