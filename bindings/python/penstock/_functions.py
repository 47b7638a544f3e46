"""The functions that take URIs, and Store."""
__all__: list[str] = []
