# Two images from one file: `web` (also migrations and the sweep; no torch) and `worker`.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 VAR_DIR=/var/lib/evalsite HF_HOME=/var/lib/evalsite/hub
RUN useradd evalsite && install -d -o evalsite -g evalsite $VAR_DIR $VAR_DIR/media $HF_HOME
WORKDIR /srv/evalsite
COPY requirements requirements

FROM base AS web
RUN pip install -r requirements/web.txt
COPY . .
USER evalsite
RUN DEBUG=off SECRET_KEY=$(python -c "import secrets; print(secrets.token_urlsafe(48))") \
    python manage.py collectstatic --noinput
CMD ["gunicorn", "evalsite.wsgi", "--bind", "0.0.0.0:8000", "--no-control-socket", \
     "--worker-class", "gthread", "--workers", "2", "--threads", "4"]

FROM base AS worker
RUN pip install -r requirements/gpu.txt
COPY . .
USER evalsite
CMD ["celery", "-A", "generation.celery", "worker"]
