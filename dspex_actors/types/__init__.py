"""Types of fields beyond text and numbers: images, sound, files, documents, conversations, tools, code, reasoning."""
