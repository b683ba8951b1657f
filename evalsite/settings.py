"""One settings file, read from the environment, failing loudly.

README.md documents every variable in one table. Without any variable set, a developer gets the
embedded default: SQLite and files under var/. A deployment sets DEBUG=off and must then bring a
real SECRET_KEY and ALLOWED_HOSTS.
"""

from pathlib import Path
from urllib.parse import quote

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# State: everything the embedded default writes lies below this folder.
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)

SWITCH = {"on": True, "true": True, "yes": True, "1": True}
SWITCH |= {"off": False, "false": False, "no": False, "0": False}


def switched(name: str, *, default: bool) -> bool:
    """A variable that is on or off; what is neither must not pass for off."""
    said = env.str(name, default="").strip().lower()
    if said and said not in SWITCH:
        raise ImproperlyConfigured(f"{name}: expected on or off, got {said}.")
    return SWITCH.get(said, default)


DEBUG = switched("DEBUG", default=True)
INSECURE_KEY = "insecure-key-of-the-embedded-default"
SECRET_KEY = env.str("SECRET_KEY", default=INSECURE_KEY)
HOME_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=HOME_HOSTS)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
if DEBUG and not set(ALLOWED_HOSTS) <= set(HOME_HOSTS):
    raise ImproperlyConfigured("DEBUG: must be off where ALLOWED_HOSTS names another machine.")
if not DEBUG and (SECRET_KEY == INSECURE_KEY or len(SECRET_KEY) < 50):
    raise ImproperlyConfigured("SECRET_KEY: with DEBUG off, set a random one of 50 characters.")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",  # thousands set apart
    "django.contrib.staticfiles",
    "generation",
    "evalsite.studies",
    "evalsite.voting",
    "evalsite.results",
    "evalsite.desk",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "evalsite.middleware.DatabaseAwayMiddleware",
]
ROOT_URLCONF = "evalsite.urls"
WSGI_APPLICATION = "evalsite.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Database. A vote is acknowledged only once it is durable: SQLite in WAL with synchronous=FULL,
# and every transaction IMMEDIATE, so that two writers wait for each other instead of failing.
EMBEDDED_URL = f"sqlite:///{quote(str(VAR_DIR / 'evalsite.sqlite3'))}"  # any folder's name
DATABASES = {"default": env.db_url("DATABASE_URL", default=EMBEDDED_URL)}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
# Kept between requests: to close SQLite's last connection is to write its whole log back.
DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Files: images under var/media, or in a bucket (s3://name; keys and endpoint as for boto3).
MEDIA_ROOT = VAR_DIR / "media"
STORAGE_URL = env.str("STORAGE_URL", default="")
if STORAGE_URL and not STORAGE_URL.startswith("s3://"):
    raise ImproperlyConfigured("STORAGE_URL: expected s3://bucket-name, or nothing for var/media.")
STORAGE_TIMEOUT_S = env.float("STORAGE_TIMEOUT_S", default=5)
if STORAGE_TIMEOUT_S <= 0:
    raise ImproperlyConfigured("STORAGE_TIMEOUT_S: expected seconds, more than 0.")


def _bucket(name: str) -> dict[str, object]:
    """A bucket that is asked twice and then given up: its library's own limits, a minute and five
    tries, would hold the thread of a page that could say meanwhile that it is away."""
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    return {
        "bucket_name": name,
        "file_overwrite": False,
        "client_config": Config(
            connect_timeout=STORAGE_TIMEOUT_S,
            read_timeout=STORAGE_TIMEOUT_S,
            retries={"total_max_attempts": 2, "mode": "standard"},
        ),
        "transfer_config": TransferConfig(num_download_attempts=2),
    }


STORAGES = {
    "default": (
        {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": _bucket(STORAGE_URL.removeprefix("s3://")),
        }
        if STORAGE_URL
        else {"BACKEND": "generation.storage.DurableStorage"}
    ),
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "whitenoise.storage.CompressedManifestStaticFilesStorage"
        )
    },
}
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

# Painting: folders in which a checkpoint's name is looked up, first match wins.
CHECKPOINT_DIRS = [
    BASE_DIR / "generation" / "tiny" / "weights",
    *[Path(folder) for folder in env.list("CHECKPOINT_DIRS", default=[])],
    VAR_DIR / "checkpoints",
]
PAINTING_DEVICE = env.str("PAINTING_DEVICE", default="")  # empty: cuda where there is one
PAINTING_OPTIONS = env.list("PAINTING_OPTIONS", default=[])  # empty: what suits the device
PAINTING_LATENCY = switched("PAINTING_LATENCY", default=True)  # time single images, once a recipe

# Celery: messages are nudges, the Image rows are the queue. See generation/celery.py.
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")

# People.
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

# Pages: nothing from elsewhere, nothing inline.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],  # the admin's icons
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SECURE_TLS = switched("SECURE_TLS", default=not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE_TLS
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_TLS else None
SESSION_COOKIE_AGE = 60 * 60 * 24 * 30

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}
