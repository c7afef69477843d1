"""The config file `portable.toml`, and everything else that decides where a resource is."""

from portable.config.bound import Bound, read_options
from portable.config.config import Config
from portable.config.profiles import Profile

__all__ = ["Bound", "Config", "Profile", "read_options"]
