"""For asyncio."""
__all__: list[str] = []
