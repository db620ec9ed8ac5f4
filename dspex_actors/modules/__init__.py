"""Programs that a node serves by name, and that are exchanged while they are called: `system.modules`."""
