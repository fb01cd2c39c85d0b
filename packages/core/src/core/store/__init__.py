"""The shared-memory object store as its clients see it: arena, allocator, pins."""
