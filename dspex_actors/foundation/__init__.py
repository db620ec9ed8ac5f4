"""What the rest stands on: the journal, spools and the form values have as bytes."""
