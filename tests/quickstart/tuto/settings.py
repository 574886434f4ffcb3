import os

REDIS_URL = os.environ.get("WINTRY_TRANSPORTERS__REDIS__URL", "redis://localhost")
