"""The inference ecosystem: coordinator, validator, cache, processor and monitor serve one program together."""
