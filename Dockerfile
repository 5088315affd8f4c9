# An image of dresd with all that it needs, for machines that have only Docker (profile `tools` of docker-compose.yml).
FROM python:3.11-slim
WORKDIR /opt/dresd-milvus
COPY . .
RUN PIP_NO_CACHE_DIR=1 VENV=/opt/venv scripts/install.sh
ENV PATH=/opt/venv/bin:$PATH
ENTRYPOINT ["dresd"]
CMD ["--help"]
