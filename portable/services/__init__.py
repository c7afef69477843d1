"""The service repository: databases, caches and brokers, installed from manifests and bound to an application.

`Services` is the engine; the command `portable services` shows what it does. A manifest is data (`contrib_services/`),
a runtime drives a platform's own tool (`portable.services.runtimes`), and neither knows of the other.
"""

from __future__ import annotations

from portable.services.engine import Services
from portable.services.health import Health

__all__ = ["Health", "Services"]
