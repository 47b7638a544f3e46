"""Many objects in one call; readers and writers."""
from ._penstock import get_many, get_ranges, put_many

__all__ = ["get_many", "get_ranges", "put_many"]
