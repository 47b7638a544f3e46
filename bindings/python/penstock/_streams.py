"""Many objects in one call; readers and writers."""
__all__: list[str] = []
