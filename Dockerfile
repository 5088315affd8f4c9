# dresd with everything it needs, for machines that have only Docker: the tools profile of docker-compose.yml.
FROM python:3.11-slim
WORKDIR /opt/dresd-milvus
COPY . .
RUN PIP_NO_CACHE_DIR=1 VENV=/opt/venv scripts/install.sh
ENV PATH=/opt/venv/bin:$PATH
ENTRYPOINT ["dresd"]
CMD ["--help"]
