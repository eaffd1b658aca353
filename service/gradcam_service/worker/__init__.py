"""The process that owns a device, and the way to it."""
