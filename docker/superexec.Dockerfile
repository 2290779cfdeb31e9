# Runs the app's ServerApp or ClientApp: Flower's SuperExec, and what the app needs.
FROM flwr/superexec:1.41.0

COPY --chown=app:app pyproject.toml README.md LICENSE /build/
COPY --chown=app:app deffd_flower /build/deffd_flower
RUN python -m pip install --no-cache-dir \
    --extra-index-url https://download.pytorch.org/whl/cpu "/build[deploy]"

USER 49999
ENTRYPOINT ["flower-superexec"]
