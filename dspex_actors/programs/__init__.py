"""Programs that come with the library."""
