"""Programs whose answers are read as they come: `streamify`, listeners to fields, status messages."""
